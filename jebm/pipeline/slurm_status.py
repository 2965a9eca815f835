"""Repairs of the status checks of snakemake-executor-plugin-slurm 2.8.0, with which a run could wait for ever."""

from types import ModuleType


def repair_status_checks(plugin: ModuleType) -> None:
    """Replace two functions of the plugin's module.

    - Where the controller does not answer, ``get_min_job_age`` returns None. The plugin then asks ``sacct`` instead of
      ``squeue``, a thousand times, and without accounting loses its jobs in the end. Here the last known value stays.
    - A job that Slurm ended for another one is PREEMPTED for good, since the profile has ``slurm-no-requeue``; the
      plugin would wait for it. Here it has failed, so that Snakemake submits it again and it goes on from its saved
      state.
    """
    ask_age, ask_states, known = plugin.get_min_job_age, plugin.query_job_status, []

    def min_job_age() -> int | None:
        if (age := ask_age()) is not None:
            known[:] = [age]
        return known[0] if known else None

    async def job_states(command, logger):
        states, seconds = await ask_states(command, logger)
        if states is None:
            return states, seconds
        return {job: "FAILED" if state == "PREEMPTED" else state for job, state in states.items()}, seconds

    plugin.get_min_job_age, plugin.query_job_status = min_job_age, job_states
