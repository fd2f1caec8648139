#!/usr/bin/env bash
# Runs the tests of the kernels, of streams and evaluation, and the golden files' on an emulated processor with AVX-512, for a
# machine that has none:
#
#     VMLINUZ=/boot/vmlinuz-6.1.0-48-cloud-amd64 bench/avx512.sh
#
# Needs a Linux kernel (VMLINUZ) and the Debian packages bochs, bochs-term, bsdutils, busybox-static, cpio, grub-pc-bin,
# mtools and xorriso. Takes one core for a few minutes; of the floats that the activations are tested with it takes every 1501st
# block, of which there are some hundred thousand.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${VMLINUZ:?set it to the path of a Linux kernel, such as /boot/vmlinuz-…}"

room="$(mktemp -d)"
trap 'pkill -f "$room/bochsrc" || true; rm -rf "$room"' EXIT
mkdir -p "$room"/root/{bin,proc,dev,lib64,lib/x86_64-linux-gnu} "$room/disc/boot/grub"
cp "$VMLINUZ" "$room/disc/boot/vmlinuz"
cp /bin/busybox "$room/root/bin/"

# The programs, with the libraries they load and the files they read.
cargo test --release --locked -p lstm-kernels -p lstm --lib --tests --no-run --message-format=json | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["profile"]["test"]:
        print(message["target"]["name"] + "-" + message["target"]["kind"][0], message["executable"])' >"$room/programs"
while read -r name path; do
    cp "$path" "$room/root/$name"
    strip "$room/root/$name"
    ldd "$path" | grep -o '/[^ ]*' | xargs -I{} cp -Lu {} "$room/root/lib/x86_64-linux-gnu/"
done <"$room/programs"
cp -L /lib64/ld-linux-x86-64.so.2 "$room/root/lib64/"
mkdir -p "$room/root$PWD/crates/lstm/tests"
cp -r crates/lstm/tests/golden "$room/root$PWD/crates/lstm/tests/"

cat >"$room/root/init" <<INIT
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
cd $PWD/crates/lstm
export LSTM_ISA=avx512 LSTM_ULP_EVERY=1501
failed=0
/bin/busybox grep -q avx512f /proc/cpuinfo || failed=1
/lstm_kernels-lib --test-threads=1 --skip team:: --skip peak:: || failed=1
/lstm-test --test-threads=1 golden:: || failed=1
/lstm-lib --test-threads=1 stream:: evaluate:: || failed=1
echo "FINISHED \$failed"
/bin/busybox sleep 1000
INIT
chmod +x "$room/root/init"
(cd "$room/root" && find . | cpio -o -H newc --quiet | gzip -1) >"$room/disc/boot/initrd.gz"

# Without xsavec and xsaves, whose areas the emulator reports in a size that Linux does not believe.
cat >"$room/disc/boot/grub/grub.cfg" <<'GRUB'
set timeout=0
menuentry tests {
    linux /boot/vmlinuz console=ttyS0 quiet mitigations=off clearcpuid=xsavec,xsaves
    initrd /boot/initrd.gz
}
GRUB
grub-mkrescue -o "$room/disc.iso" "$room/disc" >/dev/null 2>&1
cat >"$room/bochsrc" <<BOCHS
cpu: model=corei7_skylake_x, count=1, ips=100000000
memory: guest=1024, host=1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$room/disc.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$room/serial
log: $room/log
display_library: term
BOCHS
echo continue >"$room/commands"
TERM=xterm script -qfc "bochs -q -f $room/bochsrc -rc $room/commands" /dev/null </dev/null >/dev/null 2>&1 &

until grep -qs FINISHED "$room/serial"; do
    sleep 1
    kill -0 $! 2>/dev/null || { tail -n 5 "$room/log" >&2; echo "the emulator stopped before the tests did" >&2; exit 1; }
done
grep -a -E "^test |^test result|panicked|LSTM_ISA|FINISHED" "$room/serial"
grep -qs "FINISHED 0" "$room/serial"
