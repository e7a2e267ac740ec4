"""What a report cites: a key -> the reference and its address."""

from __future__ import annotations

__all__ = ['REFERENCES']

DOI = 'https://doi.org/'
ARXIV = 'https://arxiv.org/abs/'
_MACE = (
    'I. Batatia, D. P. Kovács, G. N. C. Simm, C. Ortner, G. Csányi, Adv. Neural Inf. Process. Syst. 35 (2022)',
    f'{ARXIV}2206.07697',
)

REFERENCES: dict[str, tuple[str, str]] = {
    'mace': _MACE,
    'mace-mp': ('I. Batatia et al., arXiv:2401.00096 (2023)', f'{ARXIV}2401.00096'),
    'musil': (
        'F. Musil, M. J. Willatt, M. A. Langovoy, M. Ceriotti, J. Chem. Theory Comput. 15, 906 (2019)',
        f'{DOI}10.1021/acs.jctc.8b00959',
    ),
    'ridge': ('A. E. Hoerl, R. W. Kennard, Technometrics 12, 55 (1970)', f'{DOI}10.1080/00401706.1970.10488634'),
    'soap': (
        'A. P. Bartók, R. Kondor, G. Csányi, Phys. Rev. B 87, 184115 (2013)',
        f'{DOI}10.1103/PhysRevB.87.184115',
    ),
    'ace': ('R. Drautz, Phys. Rev. B 99, 014104 (2019)', f'{DOI}10.1103/PhysRevB.99.014104'),
    'aiida': ('S. P. Huber et al., Sci. Data 7, 300 (2020)', f'{DOI}10.1038/s41597-020-00638-4'),
    'aiida-engine': (
        'M. Uhrin, S. P. Huber, J. Yu, N. Marzari, G. Pizzi, Comput. Mater. Sci. 187, 110086 (2021)',
        f'{DOI}10.1016/j.commatsci.2020.110086',
    ),
    'ase': (
        'A. H. Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017)',
        f'{DOI}10.1088/1361-648X/aa680e',
    ),
}
