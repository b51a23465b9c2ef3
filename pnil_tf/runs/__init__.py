"""What trains, evaluates, exports and loads a run on disk: the one room that writes run.json."""
