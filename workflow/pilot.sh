#!/usr/bin/env bash
# A study inside one allocation of Slurm. From the top folder of the repository, with the environment active:
#   sbatch --cpus-per-task=32 --mem=64G --time=24:00:00 workflow/pilot.sh core
#   sbatch --cpus-per-task=8 --mem=64G --gpus=1 --time=24:00:00 workflow/pilot.sh cifar10
# Two minutes ahead of the wall time, and when it is preempted, trainings save their state and the job queues itself again.
# In a pod of Kubernetes (`jebm kubernetes`), JEBM_CORES and JEBM_LIMITS stand for the allocation.
# `jebm status` says how far it is, `scancel JOB` ends it for good, after the states are saved.
#SBATCH --job-name=jebm
#SBATCH --output=jebm-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -uo pipefail

# Settings of the allocation that programs inside would take for their own.
unset SLURM_CPU_BIND SLURM_CPU_BIND_LIST SLURM_CPU_BIND_TYPE SLURM_CPU_BIND_VERBOSE

cores=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-${JEBM_CORES:-1}}}
limits=(${JEBM_LIMITS:-})
[ -n "${SLURM_MEM_PER_NODE:-}" ] && limits+=("mem_mb=$SLURM_MEM_PER_NODE")
[ -n "${SLURM_MEM_PER_CPU:-}" ] && limits+=("mem_mb=$((SLURM_MEM_PER_CPU * cores))")
[ -n "${SLURM_JOB_ID:-}" ] && limits+=("gpu=${SLURM_GPUS_ON_NODE:-0}")

start=$(mktemp)
stopped=
snakemake=
stop() {
  stopped=yes
  # Snakemake starts nothing more. Its jobs are in its process group: trainings save their state and end with 75.
  [ -n "$snakemake" ] && kill -TERM -- "-$snakemake" 2> /dev/null
}
trap stop TERM

set -m # Snakemake and its jobs get a process group of their own
snakemake --workflow-profile profiles/slurm-pilot --cores "$cores" \
  --resources "${limits[@]:-gpu=0}" -- "$@" &
snakemake=$!
while kill -0 "$snakemake" 2> /dev/null; do # `wait` returns at each signal
  wait "$snakemake"
  status=$?
done

saved=$(find data runs results .jebm/state -type f -newer "$start" -print -quit 2> /dev/null)
rm -f "$start"
if [ -n "$stopped" ] && [ "$status" != 0 ]; then
  status=75 # it can go on, in another pod
  job=$([ -n "${SLURM_JOB_ID:-}" ] && scontrol show job "$SLURM_JOB_ID")
  if [[ "$job" =~ PreemptTime=[0-9] ]] || [[ "$job" == *JobState=RUNNING* && -n "$saved" ]]; then
    echo "stopped ahead of the end of the allocation; this job queues itself again and goes on from the saved states"
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60 # until Slurm ends this job
  elif [[ "$job" == *JobState=RUNNING* ]]; then
    echo "error: no job was finished and no state saved within the wall time, so that another allocation of the same" \
      "length would not get further; jebm plan --slurm says what the jobs need" >&2
  fi
fi
exit "$status"
