"""A simulator of Papanicolaou-stained cervical cells of the five SIPaKMeD classes, with known truth."""

from cytoforge.data.phantom.anatomy import CLASSES
from cytoforge.data.phantom.faults import FAULTS
from cytoforge.data.phantom.folder import write_phantom
from cytoforge.data.phantom.simulate import PhantomCell, simulate

__all__ = ["CLASSES", "FAULTS", "PhantomCell", "simulate", "write_phantom"]
