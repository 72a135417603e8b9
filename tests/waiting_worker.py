"""A worker of a service's folder as its own process: `waiting_worker.py FOLDER [STAGE]` waits at a stage to be killed."""

import sys
import time
from pathlib import Path

from aftermap.workflows.service import jobs, queues, worker
from aftermap.workflows.service.database import Database
from aftermap.workflows.service.place import Limits, Place

tell = jobs.Jobs.tell


def told(self, number, name, progress=None):
    """Say how far it is, and stay there, however late whoever kills it looks."""
    answer = tell(self, number, name, progress)
    if progress is not None and progress["stage"] in sys.argv[2:]:
        time.sleep(600)
    return answer


def main():
    """Work until it is killed."""
    jobs.Jobs.tell = told
    jobs.LEASE_SECONDS = -1.0  # a killed one is noticed at once
    queues.IDLE_SECONDS = 0.2
    worker.warm = lambda: None
    place = Place(Path(sys.argv[1]), Limits(free_bytes=0, attempts=50))
    worker.Worker(place, Database(place.database), queues.open_queue(place.queue)).run()


if __name__ == "__main__":
    main()
