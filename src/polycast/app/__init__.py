"""Puts the layers together: a server made from a configuration."""

from polycast.app.application import Application as Application
from polycast.app.servers import StartError as StartError
