"""Commands on datasets: synthesise, prepare, check, split, show."""
