"""A list of jobs, done by processes of this machine or by Ray on many; see `run.run_jobs`."""
