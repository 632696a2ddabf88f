"""What each word after `python -m launch` does."""

import signal
import sys

from launch import environment
from launch.errors import LaunchError
from launch.progress import say, step

USAGE = "python -m launch run | setup [--dev] | servers | stop"


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that an installer ends with us
    try:
        match arguments:
            case ["setup"]:
                environment.set_up()
            case ["setup", "--dev"]:
                environment.set_up("develop")
            case ["run"]:
                environment.set_up()
                environment.enter(arguments)
                run()
            case ["servers"]:
                environment.set_up()
                environment.enter(arguments)
                start_servers()
            case ["stop"]:
                environment.set_up()
                environment.enter(arguments)
                stop_servers()
            case _:
                raise LaunchError(f"Usage: {USAGE}")
    except LaunchError as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # before there is anything to stop
    return 0


# Imported late: what follows needs the environment's packages.


def run() -> None:
    from launch.run import run as run_everything

    run_everything()


def start_servers() -> None:
    """Start both and leave them running, for those who work with `manage.py` alone."""
    from launch import servers
    from launch.places import Places

    places = Places(environment.ROOT / "var")
    postgres, valkey = servers.Postgres(places), servers.Valkey(places)
    with step("PostgreSQL, Valkey"):
        servers.start([postgres, valkey], places)
        postgres.make_database()
    say(f"DATABASE_URL={places.database_url}")
    say(f"REDIS_URL={places.redis_url}")


def stop_servers() -> None:
    from launch import servers
    from launch.places import Places
    from launch.run import the_only_one

    places = Places(environment.ROOT / "var")
    with the_only_one(), step("Stopping"):
        servers.stop([servers.Postgres(places), servers.Valkey(places)], places)
