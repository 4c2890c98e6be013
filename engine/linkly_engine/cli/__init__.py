"""The `linkly` command, one file per subcommand. Nothing is imported before it is known what is asked."""
