"""A folder of this machine, `file://`: staging on one machine, and the twin of the cloud stores."""
