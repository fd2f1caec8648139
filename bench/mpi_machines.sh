#!/usr/bin/env bash
# Two machines: two network namespaces joined by a virtual cable, with host names of their own, each with half of the ranks of one
# `lstm train`, which mpirun starts in the second by its launch agent. The model has to have the bits of one process. Needs root, iproute2
# and Open MPI; shapes the cable by tc where the kernel can.
#
#   [SHARDS=8] bench/mpi_machines.sh [LSTM] [RANKS] [OPTIONS OF TRAIN …]
set -euo pipefail
cd "$(dirname "$0")/.."
lstm="$(realpath "${1:-target/release/lstm}")"
ranks="${2:-8}"
shards="${SHARDS:-8}"
shift $(($# < 2 ? $# : 2))
train=(${@:---preset small --batch 16 --steps 20})
place="$(mktemp -d)"
first="lstm-a-$$" second="lstm-b-$$"
tidy() { ip netns del "$first" 2>/dev/null || true; ip netns del "$second" 2>/dev/null || true; rm -rf "$place"; }
trap tidy EXIT
for namespace in "$first" "$second"; do ip netns add "$namespace"; ip -n "$namespace" link set lo up; done
ip link add la$$ netns "$first" type veth peer name lb$$ netns "$second"
ip -n "$first" addr add 10.77.0.1/24 dev la$$; ip -n "$first" link set la$$ up
ip -n "$second" addr add 10.77.0.2/24 dev lb$$; ip -n "$second" link set lb$$ up

# What mpirun calls instead of ssh: AGENT HOST COMMAND …
cat >"$place/agent" <<AGENT
#!/bin/sh
shift
exec ip netns exec "$second" unshare --uts sh -c "hostname machine-b; \$*"
AGENT
chmod +x "$place/agent"
printf '10.77.0.1 slots=%d\n10.77.0.2 slots=%d\n' $((ranks / 2)) $((ranks / 2)) >"$place/hosts"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

seq 1 40000 | awk '{ srand($1); printf "%d %d %d\n", rand() * 90, $1 % 71, ($1 * $1) % 53 }' >"$place/text.txt"
"$lstm" train "$place/text.txt" "${train[@]}" --shards $shards --threads 1 --out "$place/alone" >/dev/null 2>"$place/said" || { cat "$place/said"; exit 1; }

train_on_two() { # NAME
    ip netns exec "$first" unshare --uts sh -c 'hostname machine-a; exec "$@"' sh \
        mpirun --hostfile "$place/hosts" -n "$ranks" --oversubscribe --map-by slot --mca plm_rsh_agent "$place/agent" \
        --mca btl tcp,self,vader --mca btl_vader_single_copy_mechanism none --mca btl_tcp_if_include 10.77.0.0/24 \
        --mca oob_tcp_if_include 10.77.0.0/24 --mca mpi_yield_when_idle 1 \
        "$lstm" train "$place/text.txt" "${train[@]}" --shards $shards --threads 1 --out "$place/$1" >"$place/result" 2>"$place/said" ||
        { cat "$place/said"; exit 1; }
    cmp "$place/alone/model.safetensors" "$place/$1/model.safetensors"
    echo "$1: $ranks ranks on two machines, the bits of one process"
    grep "a step of" "$place/result"
}

train_on_two unshaped
for rate in 1gbit 10gbit; do
    if ip netns exec "$first" tc qdisc replace dev la$$ root tbf rate $rate burst 1mb latency 50ms 2>/dev/null &&
        ip netns exec "$second" tc qdisc replace dev lb$$ root tbf rate $rate burst 1mb latency 50ms 2>/dev/null; then
        train_on_two "$rate"
    else
        echo "$rate: not shaped, for tc has no tbf here"
    fi
done
