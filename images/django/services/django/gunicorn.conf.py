"""How the project is run. nginx stands before it, and says who asks."""

from pathlib import Path

bind = "unix:/run/django/socket"
threads = 4
accesslog = "-"
access_log_format = '%({x-forwarded-for}i)s "%(r)s" %(s)s %(b)s "%(a)s"'
# An edit shows at once. Only looking at all the files finds those that are loaded late.
reload = True
reload_engine = "poll"
# A page may take its time; a container that ends has not as much.
timeout = 300
graceful_timeout = 5


def pre_request(worker, request):
    """Leaves a sign for the meter: a request may be over before anybody counts its connection."""
    Path("/run/django/request").touch()
