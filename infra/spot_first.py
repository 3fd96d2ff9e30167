"""EC2 nodes for Ray's cluster launcher: on spot, and on demand where AWS has no spot capacity left.

Two node types, spot before on demand, do not fall back in Ray 2.60: its autoscaler turns to another type when an
instance that was granted does not come up, but a launch that EC2 refuses leaves no trace, and the refused type is asked
for again, for ever. Here the refused launch itself is repeated on demand. ``cluster.yaml`` names this class.
"""

import logging
from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

logger = logging.getLogger(__name__)

NO_SPOT = frozenset(
    {"InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "SpotMaxPriceTooLow", "UnfulfillableCapacity"}
)
"""Codes of EC2 that say that there is no spot instance to be had now."""


class SpotFirstNodeProvider(AWSNodeProvider):
    """Ray's own provider for AWS, but for a launch on spot that is refused in every zone."""

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Launch up to ``count`` instances.

        Args:
            node_config: Arguments of EC2's ``RunInstances``; with ``InstanceMarketOptions`` spot is tried first.
            tags: Ray's tags. They stay the same on demand, so that Ray takes the instances for those it asked for.
            count: Instances wanted; fewer may come.

        Returns:
            The instances by their ids.

        Raises:
            NodeLaunchException: Refused on demand too, or for another reason than missing spot capacity.
        """
        try:
            return super().create_node(node_config, tags, count)
        except NodeLaunchException as refusal:
            if "InstanceMarketOptions" not in node_config or refusal.category not in NO_SPOT:
                raise
            logger.warning("no spot %s (%s), launching on demand", node_config["InstanceType"], refusal.category)
        on_demand = {key: value for key, value in node_config.items() if key != "InstanceMarketOptions"}
        return super().create_node(on_demand, tags, count)
