"""What trains, evaluates, exports and loads a run on the disk: the one room that knows run.json."""
