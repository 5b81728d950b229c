"""The API for programs: every route described, and `/openapi.json` made of it."""
