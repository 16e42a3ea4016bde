#!/bin/sh
# Make the databases of both modules where they are missing; it may run again at any time.
#
# The postgres image runs it once, when its volume is empty. By hand, for a volume that was there before:
#   docker compose exec postgres sh /docker-entrypoint-initdb.d/init-postgres.sh
set -eu

for database in agent_runtime auth_db; do
    # CREATE DATABASE knows no IF NOT EXISTS, so the statement is made only where the name is free.
    psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=name="$database" \
        --username="${POSTGRES_USER:-codelab}" --dbname="${POSTGRES_DB:-codelab}" <<'SQL'
SELECT format('CREATE DATABASE %I', :'name')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name')
\gexec
SQL
done
