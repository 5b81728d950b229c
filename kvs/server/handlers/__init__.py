"""What answers each route: parse, ask storage or the runner, render."""
