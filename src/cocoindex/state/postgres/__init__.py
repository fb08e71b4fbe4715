"""The state store on Postgres: for many hosts, and wherever there is a database anyway."""
