#!/bin/bash
# Train one stage on several nodes of a Slurm cluster, resuming after every interruption:
#
#     sbatch --nodes=4 --gpus-per-node=8 --time=24:00:00 examples/train_slurm.sh \
#         --config configs/geometry.yaml --set data.latents=/mnt/latents --set data.images=/mnt/shards
#
# Five minutes before the time limit, Slurm sends SIGUSR1: the step in progress is discarded, a checkpoint is written, and
# the job ends. Submit it again to resume. Run it in the root of a checkout on a shared file system, with torchrun on PATH.
#SBATCH --job-name=helix4d
#SBATCH --ntasks-per-node=1
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-backend=c10d --rdzv-endpoint="$first:${RENDEZVOUS_PORT:-29500}" --rdzv-id="$SLURM_JOB_ID" \
    --signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout=240 --max-restarts=3 \
    -m helix4d.train "$@"
