"""The main job in one command: train in simulation, export, start robot and bridge, obey instructions, report."""

from mcsd_agent.demo.demo import run_demo

__all__ = ["run_demo"]
