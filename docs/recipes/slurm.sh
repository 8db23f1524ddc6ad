#!/usr/bin/env bash
#SBATCH --job-name=svdlab
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#
# A sweep on all GPUs of a Slurm allocation: Ray is started inside it, and goes with it.
#
#   sbatch docs/recipes/slurm.sh SPEC [options of `svdlab sweep`]
#
# Submitted again after the time limit, the same command goes on where it was. All nodes must see the environment with
# svdlab[ray], active when this is submitted, and the weights; the run directory is written by the first node alone.
# Run with Slurm 22.05 on one machine that was two nodes without GPUs: a sweep, and one cancelled and submitted again.
set -euo pipefail

spec=${1:?usage: sbatch slurm.sh SPEC [options of svdlab sweep]}
shift
port=${RAY_PORT:-6379}
export RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -vtx1 -N32 /dev/urandom | tr -d ' \n') # others on the network cannot use the cluster
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # which srun does not take over from sbatch

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
first=${hosts[0]}
ip=$(srun --nodes=1 --ntasks=1 -w "$first" hostname --ip-address | awk '{print $1}')
export RAY_ADDRESS="$ip:$port"
has=(--num-cpus "${SLURM_CPUS_PER_TASK:-1}" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" --block)

stop() { jobs -p | xargs -r kill 2>/dev/null || true; }
trap stop EXIT

srun --nodes=1 --ntasks=1 -w "$first" \
  ray start --head --node-ip-address "$ip" --port "$port" --include-dashboard=false "${has[@]}" &
for _ in $(seq 120); do # the head takes some seconds
  if (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; then break; fi
  sleep 1
done
if ((${#hosts[@]} > 1)); then
  others=$((${#hosts[@]} - 1))
  srun --nodes="$others" --ntasks="$others" --exclude="$first" ray start --address "$RAY_ADDRESS" "${has[@]}" &
fi

svdlab sweep "$spec" --engine ray "$@"
