"""The demo of `pipit serve --demo`: sample events of three customers, and a page that shows the isolation."""
