"""Where the time of a run went: a table of its stages, from the provenance graph of the loaded profile.

    verdi run tests/benchmarks/demo_stages.py [PK]

Without a PK: the newest run that finished well. Wall time is that of the stage's process, from creation to its last
change; jobs are the CalcJobs in it (worker and pw.x); reused ones came from AiiDA's cache and cost nothing. The output
is a Markdown table.
"""

import sys

from aiida.orm import CalcJobNode, ProcessNode, QueryBuilder

from aiida_mlip_autopipe.provenance.progress import ProgressReader, RunProgress
from aiida_mlip_autopipe.provenance.states import list_runs


def newest_run() -> int:
    """Return the PK of the newest run with exit status 0."""
    for run in list_runs():
        if run.exit_status == 0:
            return run.pk
    raise SystemExit('no run of this profile finished well; give the PK of one: `mlip-autopipe status` lists them')


def count_jobs(stage: int) -> tuple[int, int]:
    """Return how many CalcJobs a stage called, directly or not, and how many of them were reused."""
    jobs: dict[int, bool] = {}
    callers = [stage]
    while callers:
        query = QueryBuilder()
        query.append(ProcessNode, filters={'id': {'in': callers}}, tag='caller')
        query.append(ProcessNode, with_incoming='caller', project=['id', 'node_type', 'extras._aiida_cached_from'])
        rows = query.all()
        jobs |= {pk: source is not None for pk, kind, source in rows if kind == CalcJobNode.class_node_type}
        callers = [pk for pk, _, _ in rows]
    return len(jobs), sum(jobs.values())


def table(progress: RunProgress) -> str:
    """Return the stages as a Markdown table; what is left over is the time between them."""
    counts = [count_jobs(stage.pk) for stage in progress.stages]
    rows = [
        (stage.name, stage.seconds, *count, stage.seconds / progress.seconds)
        for stage, count in zip(progress.stages, counts, strict=True)
    ]
    rest = progress.seconds - sum(stage.seconds for stage in progress.stages)
    rows.append(('between stages', rest, 0, 0, rest / progress.seconds))
    rows.append(('**run**', progress.seconds, *map(sum, zip((0, 0), *counts, strict=True)), 1.0))
    lines = [f'| {name} | {seconds:.0f} | {n} | {reused} | {share:.0%} |' for name, seconds, n, reused, share in rows]
    return '\n'.join(['| stage | wall time (s) | jobs | reused | share |', '|---|---:|---:|---:|---:|', *lines])


def main() -> None:
    """Print the table."""
    pk = int(sys.argv[1]) if len(sys.argv) > 1 else newest_run()
    print(table(ProgressReader(pk).read()))


if __name__ == '__main__':
    main()
