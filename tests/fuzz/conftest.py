from fuzzing import made


def pytest_terminal_summary(terminalreporter):
    """Says how many cases were made."""
    if made:
        terminalreporter.section("fuzzing")
        for name, count in made.items():
            terminalreporter.line(f"{count:7,}  {name}")
        terminalreporter.line(f"{sum(made.values()):7,}  cases in all")
