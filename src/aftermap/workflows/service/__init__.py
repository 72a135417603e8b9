"""What a service keeps and does below its pages: uploads, jobs, maps, tokens; the worker that makes the maps."""
