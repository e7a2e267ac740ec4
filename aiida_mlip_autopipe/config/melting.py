"""Melting temperatures: tabulated, or estimated where there is ground for an estimate.

Source: CRC Handbook of Chemistry and Physics, sections "Physical constants of inorganic compounds" and "Melting,
boiling, and critical temperatures of the elements", at ambient pressure, rounded to 1 K. Editions differ by up to some
50 K for refractory compounds; temperatures to explore are fractions of these. `REMARKS` names what does not melt at
ambient pressure: carbon, arsenic and carbon dioxide have the triple point, nitrides and sulfides that decompose the
melting point under the pressure of the gas.

A formula says which molecule it is only for the smallest: CH is benzene and acetylene, C2H6O ethanol and dimethyl
ether. No others are tabulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ase.formula import Formula

__all__ = ['COMPOUND_MELTING_K', 'MELTING_K', 'MeltingEstimate', 'melting_estimate']

MELTING_K: dict[str, int] = {
    'H': 14, 'Li': 454, 'Be': 1560, 'B': 2348, 'C': 4762, 'N': 63, 'O': 54, 'F': 53, 'Ne': 25, 'Na': 371, 'Mg': 923,
    'Al': 933, 'Si': 1687, 'P': 317, 'S': 388, 'Cl': 172, 'Ar': 84, 'K': 337, 'Ca': 1115, 'Sc': 1814, 'Ti': 1941,
    'V': 2183, 'Cr': 2180, 'Mn': 1519, 'Fe': 1811, 'Co': 1768, 'Ni': 1728, 'Cu': 1358, 'Zn': 693, 'Ga': 303,
    'Ge': 1211, 'As': 1090, 'Se': 494, 'Br': 266, 'Kr': 116, 'Rb': 312, 'Sr': 1050, 'Y': 1795, 'Zr': 2127, 'Nb': 2750,
    'Mo': 2895, 'Tc': 2430, 'Ru': 2606, 'Rh': 2236, 'Pd': 1828, 'Ag': 1235, 'Cd': 594, 'In': 430, 'Sn': 505,
    'Sb': 904, 'Te': 723, 'I': 387, 'Xe': 161, 'Cs': 302, 'Ba': 1000, 'La': 1193, 'Ce': 1072, 'Pr': 1204, 'Nd': 1289,
    'Pm': 1315, 'Sm': 1345, 'Eu': 1095, 'Gd': 1586, 'Tb': 1632, 'Dy': 1685, 'Ho': 1745, 'Er': 1802, 'Tm': 1818,
    'Yb': 1097, 'Lu': 1936, 'Hf': 2506, 'Ta': 3290, 'W': 3687, 'Re': 3458, 'Os': 3306, 'Ir': 2719, 'Pt': 2041,
    'Au': 1337, 'Hg': 234, 'Tl': 577, 'Pb': 601, 'Bi': 545, 'Po': 527, 'Rn': 202, 'Ra': 969, 'Ac': 1323, 'Th': 2023,
    'Pa': 1845, 'U': 1408, 'Np': 917, 'Pu': 913, 'Am': 1449, 'Cm': 1618,
}  # fmt: skip
COMPOUND_MELTING_K: dict[str, int] = {
    # halides
    'LiF': 1121, 'LiCl': 883, 'LiBr': 823, 'LiI': 742, 'NaF': 1269, 'NaCl': 1074, 'NaBr': 1020, 'NaI': 934,
    'KF': 1131, 'KCl': 1044, 'KBr': 1007, 'KI': 954, 'RbF': 1068, 'RbCl': 997, 'RbBr': 965, 'RbI': 929,
    'CsF': 976, 'CsCl': 919, 'CsBr': 909, 'CsI': 905, 'MgF2': 1536, 'MgCl2': 987, 'CaF2': 1691, 'CaCl2': 1048,
    'SrF2': 1750, 'SrCl2': 1147, 'BaF2': 1641, 'BaCl2': 1234, 'AgCl': 728, 'AgBr': 703, 'AgI': 831,
    'PbF2': 1103, 'PbCl2': 774, 'PbI2': 683, 'ZnF2': 1145, 'CdI2': 660, 'LaF3': 1766,
    # hydrides and salts of molecular ions
    'LiH': 965, 'LiBH4': 553, 'NaOH': 596, 'LiOH': 746, 'KNO3': 607, 'NaNO3': 580, 'Li2CO3': 1005, 'Na2CO3': 1129,
    'K2CO3': 1172,
    # oxides
    'Li2O': 1711, 'BeO': 2851, 'MgO': 3098, 'CaO': 2886, 'SrO': 2804, 'BaO': 2246, 'Al2O3': 2326, 'Sc2O3': 2762,
    'Y2O3': 2712, 'La2O3': 2577, 'CeO2': 2753, 'TiO2': 2116, 'ZrO2': 2983, 'HfO2': 3073, 'ThO2': 3623, 'UO2': 3120,
    'V2O5': 954, 'Nb2O5': 1785, 'Cr2O3': 2705, 'MoO3': 1075, 'WO3': 1746, 'MnO': 2115, 'FeO': 1650, 'Fe3O4': 1870,
    'Fe2O3': 1812, 'CoO': 2103, 'NiO': 2230, 'Cu2O': 1517, 'CuO': 1500, 'ZnO': 2247, 'Ga2O3': 2080, 'In2O3': 2185,
    'SiO2': 1986, 'GeO2': 1389, 'SnO2': 1903, 'PbO': 1160, 'B2O3': 723, 'TeO2': 1006, 'Bi2O3': 1098, 'SrTiO3': 2353,
    'BaTiO3': 1898, 'MgAl2O4': 2408,
    # nitrides, carbides, borides
    'AlN': 3273, 'GaN': 2773, 'Li3N': 1086, 'TiN': 3223, 'ZrN': 3233, 'VN': 2323, 'TaN': 3363, 'Si3N4': 2173,
    'BN': 3240, 'SiC': 3103, 'B4C': 2623, 'TiC': 3340, 'ZrC': 3805, 'VC': 3083, 'NbC': 3881, 'TaC': 4153, 'WC': 3058,
    'Al4C3': 2373, 'TiB2': 3498, 'ZrB2': 3323,
    # semiconductors and chalcogenides
    'AlP': 2823, 'AlAs': 2013, 'AlSb': 1338, 'GaP': 1730, 'GaAs': 1511, 'GaSb': 985, 'InP': 1335, 'InAs': 1215,
    'InSb': 797, 'ZnS': 1973, 'ZnSe': 1790, 'ZnTe': 1568, 'CdS': 1750, 'CdSe': 1513, 'CdTe': 1315, 'HgTe': 943,
    'PbS': 1386, 'PbSe': 1351, 'PbTe': 1197,
    'SnS': 1154, 'SnSe': 1134, 'SnTe': 1079, 'GeTe': 998, 'GeSe': 940, 'Bi2Te3': 859, 'Bi2Se3': 979, 'Sb2Te3': 893,
    'Sb2Se3': 884, 'Sb2S3': 823, 'In2S3': 1323, 'Cu2S': 1402, 'Ag2S': 1098, 'FeS': 1461, 'MnS': 1883, 'Li2S': 1645,
    'Na2S': 1445, 'MoS2': 2023, 'Mg2Si': 1358,
    # molecular crystals
    'H2O': 273, 'NH3': 195, 'CO2': 217, 'CO': 68, 'CH4': 91, 'N2O': 182, 'HF': 190, 'HCl': 159, 'HBr': 186,
    'H2S': 188, 'SO2': 198, 'SF6': 223, 'CCl4': 250, 'SiH4': 88,
}  # fmt: skip
REMARKS = {
    'C': 'triple point', 'As': 'triple point', 'P': 'white', 'CO2': 'triple point', 'GaN': 'under nitrogen pressure',
    'AlN': 'under nitrogen pressure', 'Si3N4': 'decomposes', 'BN': 'under nitrogen pressure', 'WC': 'decomposes',
    'VN': 'under nitrogen pressure', 'CuO': 'decomposes at ambient pressure', 'Fe2O3': 'decomposes',
    'SF6': 'triple point', 'SiC': 'decomposes', 'CdS': 'under pressure', 'ZnS': 'under pressure',
}  # fmt: skip

NOT_ALLOYING = (
    *('H', 'B', 'C', 'N', 'O', 'F', 'Ne', 'P', 'S', 'Cl', 'Ar', 'As', 'Se', 'Br', 'Kr'),
    *('Sb', 'Te', 'I', 'Xe', 'Po', 'Rn'),
)
ALLOYING = frozenset(MELTING_K) - frozenset(NOT_ALLOYING)
"""Metals, silicon and germanium: an alloy of them melts within some 15 % of the mean of its elements."""


class MeltingEstimate(NamedTuple):
    """A melting temperature, in K, and what it rests on (empty for a tabulated element)."""

    temperature_K: int
    basis: str

    def __str__(self) -> str:
        return f'{self.temperature_K} K{", " if self.basis else ""}{self.basis}'


def melting_estimate(composition: Mapping[str, int]) -> MeltingEstimate | None:
    """Return the melting temperature of a composition (element -> count), or None where there is no ground for one.

    A tabulated element or compound gives its own, an alloy of metals the mean over its elements. Ionic and covalent
    compounds melt far from any mean of their elements: GaN 2500 K above gallium, methane 4700 K below carbon.
    """
    for name, temperature in _tabulated(composition).items():
        remark = REMARKS.get(name, '')
        basis = ', '.join(part for part in ('' if len(composition) == 1 else f'of {name}', remark) if part)
        return MeltingEstimate(temperature, basis)
    if set(composition) <= ALLOYING:
        mean = sum(MELTING_K[symbol] * count for symbol, count in composition.items()) / sum(composition.values())
        return MeltingEstimate(round(mean), f'mean of {", ".join(sorted(composition))}')
    return None


def _tabulated(composition: Mapping[str, int]) -> dict[str, int]:
    """Return the name and the melting temperature of a tabulated element or compound: one, or none."""
    if len(composition) == 1:
        return {symbol: MELTING_K[symbol] for symbol in composition if symbol in MELTING_K}
    reduced = Formula.from_dict(dict(composition)).reduce()[0].count()
    return {name: kelvin for name, kelvin in COMPOUND_MELTING_K.items() if Formula(name).count() == reduced}
