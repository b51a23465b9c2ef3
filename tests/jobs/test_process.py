"""A job's process speaks to its reader as whoever had it started does."""

import os
import pickle
import sys
from pathlib import Path

import pytest

from pnil_tf.errors import speaking_of_flags
from pnil_tf.jobs.job import Job
from pnil_tf.jobs.process import start


class SayingJob(Job):
    module = "job_that_says"

    @property
    def environment(self):
        return {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}

    def note_end(self, status):
        raise NotImplementedError

    note_failure = note_end


@pytest.mark.parametrize("of_flags", [False, True])
def test_errors_in_a_job_speak_of_flags_where_a_command_had_it_done(of_flags, tmp_path):
    if of_flags:
        with speaking_of_flags():
            job = SayingJob(tmp_path)
    else:
        job = SayingJob(tmp_path)
    # Over there nothing is known of the command: a node of a cluster is handed the job alone.
    process = start(pickle.loads(pickle.dumps(job)))
    with process:
        assert process.wait(60) == 0, job.log.read_text()
    assert (tmp_path / "said").read_text() == ("--seed=1" if of_flags else "seed=1")
