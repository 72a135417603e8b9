"""Commands on models: predict, evaluate, export, time, import."""
