import pytest
from fuzzing import made


@pytest.fixture(autouse=True)
def _cases(request, record_property):
    """Notes how many cases a test made, for the summary of whatever process shows it."""
    yield
    if request.node.name in made:
        record_property("cases", made[request.node.name])


def pytest_terminal_summary(terminalreporter):
    """Says how many cases were made."""
    groups = ("", "passed", "failed")  # teardowns are in the first
    reports = [report for group in groups for report in terminalreporter.getreports(group)]
    counts = {
        report.nodeid.split("::")[-1]: count
        for report in reports
        for name, count in report.user_properties
        if name == "cases"
    }
    if counts:
        terminalreporter.section("fuzzing")
        for name, count in counts.items():
            terminalreporter.line(f"{count:7,}  {name}")
        terminalreporter.line(f"{sum(counts.values()):7,}  cases in all")
