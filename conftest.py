"""Names the plugin that has all fixtures; builds nothing."""

pytest_plugins = ["e2e.fixtures.every"]
