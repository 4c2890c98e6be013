"""`python -m linkly_engine` is the `linkly` command."""

from linkly_engine.cli.main import main

raise SystemExit(main())
