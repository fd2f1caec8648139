"""One thread unless a test asks for more: other programs may share the machine."""

try:
    import torch
except ImportError:
    torch = None


def pytest_configure():
    if torch is not None:
        torch.set_num_threads(1)
