"""The paper's experiment as a grid of jobs, and the report on what came out."""
