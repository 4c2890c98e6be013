"""Values in a database of the `database` worker; a folder of `.sql` files for each kind of database."""
