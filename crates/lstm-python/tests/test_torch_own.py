"""The inputs, references and errors of PyTorch's own module tests (`torch.testing._internal.common_modules`), on our classes."""

import copy
import pickle

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed, so its tests are not there")
from torch import nn

common = pytest.importorskip("torch.testing._internal.common_modules", reason="this torch comes without its tests")

import lstm_cpu

OURS = {nn.LSTM: lstm_cpu.LSTM, nn.LSTMCell: lstm_cpu.LSTMCell}
INFOS = [info for info in common.module_db if info.module_cls in OURS]


def cases(needs_gradient, training):
    assert len(INFOS) == len(OURS)
    for info in INFOS:
        inputs = info.module_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=needs_gradient, training=training
        )
        assert inputs
        for at in inputs:
            made = []
            for cls in (OURS[info.module_cls], info.module_cls):
                module = cls(*at.constructor_input.args, **at.constructor_input.kwargs)
                made.append(module.train(training))
            made[0].load_state_dict(made[1].state_dict())
            yield (*made, at)


def flat(value):
    return [value] if isinstance(value, torch.Tensor) else [one for part in value for one in flat(part)]


@pytest.mark.parametrize("training", [True, False])
def test_forward_is_the_reference(training):
    for ours, theirs, at in cases(False, training):
        arguments, options = at.forward_input.args, at.forward_input.kwargs
        found = flat(ours(*arguments, **options))
        torch.testing.assert_close(found, flat(theirs(*arguments, **options)))
        if at.reference_fn is not None:
            reference = at.reference_fn(ours, *arguments, **options)
            torch.testing.assert_close(found, flat(reference))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_those_of_torch(training):
    for ours, theirs, at in cases(True, training):
        arguments = at.forward_input.args
        found = []
        for module in (ours, theirs):
            inputs = flat(arguments)
            wanted = [*inputs, *module.parameters()]
            results = flat(module(*arguments))
            loss = sum((result * (number + 1)).sin().sum() for number, result in enumerate(results))
            found.append(torch.autograd.grad(loss, wanted, allow_unused=True))
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_inputs_that_do_not_lie_row_by_row():
    for ours, _, at in cases(False, True):
        arguments = at.forward_input.args
        expected = flat(ours(*arguments))

        def apart(value):
            if isinstance(value, torch.Tensor):
                return torch.stack([value, value], -1)[..., 0]
            return tuple(apart(part) for part in value)

        torch.testing.assert_close(flat(ours(*apart(arguments))), expected)


def test_pickles_copies_and_representations():
    for ours, theirs, at in cases(False, False):
        expected = flat(ours(*at.forward_input.args))
        for made in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
            torch.testing.assert_close(flat(made(*at.forward_input.args)), expected)
        assert repr(ours) == repr(theirs)


def test_factory_arguments():
    for cls in OURS.values():
        assert all(p.dtype == torch.float64 for p in cls(2, 3, dtype=torch.float64).parameters())
        assert all(p.is_meta for p in cls(2, 3, device="meta").parameters())


def test_errors_are_those_of_torch():
    seen = 0
    for info in INFOS:
        inputs = info.module_error_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=False, training=True
        )
        for at in inputs:
            given = at.module_error_input
            cls = OURS[info.module_cls]
            construct = given.constructor_input
            if at.error_on == common.ModuleErrorEnum.CONSTRUCTION_ERROR:
                with pytest.raises(at.error_type, match=at.error_regex):
                    cls(*construct.args, **construct.kwargs)
            else:
                module = cls(*construct.args, **construct.kwargs)
                with pytest.raises(at.error_type, match=at.error_regex):
                    module(*given.forward_input.args, **given.forward_input.kwargs)
            seen += 1
    assert seen > 5
