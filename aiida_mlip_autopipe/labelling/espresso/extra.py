"""Entries of pw.x's namelists that have no key of their own: what they may be, and what the pipeline sets itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from aiida_mlip_autopipe.science.parameters.base import FiniteFloat

__all__ = ['Extra', 'extra_entries', 'extra_problems']

Plain = bool | int | FiniteFloat | str
Value = Plain | list[Plain] | list[list[Plain]] | dict[str, Plain]
NEAR = 0.85

#: The keys that pw.x knows as far as they may be given (INPUT_PW of versions 6.7 to 7.4). Newer ones are let through.
KNOWN = {
    'CONTROL': 'title verbosity wf_collect iprint wfcdir lkpoint_dir etot_conv_thr forc_conv_thr lelfield nberrycyc '
    'gate trism',
    'SYSTEM': 'starting_charge ecutfock nr1 nr2 nr3 nr1s nr2s nr3s nosym nosym_evc noinv no_t_rev force_symmorphic '
    'use_all_frac one_atom_occupations starting_spin_angle degauss_cond nelec_cond nbnd_cond ecfixed qcutz q2sigma '
    'exx_fraction screening_parameter exxdiv_treatment x_gamma_extrapolation ecutvcut nqx1 nqx2 nqx3 localization_thr '
    'ace hubbard_j0 hubbard_j hubbard_alpha hubbard_beta hubbard_occ starting_ns_eigenvalue dmft dmft_prefix '
    'ensemble_energies angle1 angle2 constrained_magnetization fixed_magnetization lambda report esm_bc esm_w '
    'esm_efield esm_nfit xdm_a1 xdm_a2 london_s6 london_c6 london_rvdw london_rcut zgate relaxz block block_1 block_2 '
    'block_height sic_gamma pol_type sic_energy sci_vb sci_cb',
    'ELECTRONS': 'electron_maxstep exx_maxstep adaptive_thr conv_thr_init conv_thr_multi mixing_mode mixing_beta '
    'mixing_ndim mixing_fixed_ns diagonalization diago_thr_init diago_cg_maxiter diago_ppcg_maxiter diago_david_ndim '
    'diago_rmm_ndim diago_rmm_conv diago_gs_nblock diago_full_acc efield efield_cart efield_phase startingpot '
    'startingwfc tqr real_space',
}
KEYS = {namelist: names.split() for namelist, names in KNOWN.items()}

OURS = 'the pipeline sets it for each structure; leave it out'
NO_SPINORS = 'spinors need twice the bands, and the pipeline computes collinear spins alone; leave it out'
PIPELINE = (
    'calculation tprnfor tstress outdir prefix pseudo_dir restart_mode disk_io max_seconds nstep dt ibrav celldm a b c '
    'cosab cosac cosbc nat ntyp nbnd space_group uniqueb origin_choice rhombohedral scf_must_converge'
)
#: What the pipeline sets, and what to give in its place.
TAKEN = {
    **dict.fromkeys(PIPELINE.split(), OURS),
    **dict.fromkeys(('noncolin', 'lspinorb', 'lforcet'), NO_SPINORS),
    'occupations': 'labels are computed with smearing: give labelling.smearing and labelling.degauss_Ry',
    'smearing': 'give labelling.smearing',
    'degauss': 'give labelling.degauss_Ry',
    'ecutwfc': 'give labelling.ecutwfc_Ry',
    'ecutrho': 'give labelling.ecutrho_Ry',
    'conv_thr': 'give labelling.conv_thr_per_atom_Ry',
    'input_dft': 'give labelling.functional',
    **dict.fromkeys(('vdw_corr', 'london', 'ts_vdw', 'xdm', 'dftd3_version'), 'give labelling.dispersion'),
    'dftd3_threebody': 'give labelling.dispersion_three_body',
    **dict.fromkeys(('lda_plus_u', 'lda_plus_u_kind', 'hubbard_u'), 'give labelling.hubbard'),
    'u_projection_type': 'give labelling.hubbard_projector',
    'tot_charge': 'give labelling.charge',
    'assume_isolated': 'give labelling.boundary',
    **dict.fromkeys(
        ('tefield', 'dipfield', 'edir', 'emaxpos', 'eopreg', 'eamp'),
        'a sawtooth field has no stress; give labelling.boundary: 2d, which treats a dipole across a layer, too',
    ),
    'nspin': 'give labelling.spin_polarised',
    **dict.fromkeys(('starting_magnetization', 'tot_magnetization'), 'the keys for spin of labelling set it'),
}


def extra_problems(extra: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with entries of namelists: ``namelist.key: ...``, and the way out."""
    for namelist, entries in extra.items():
        for key, value in entries.items():
            if problem := _key_problem(namelist, key) or _value_problem(value):
                yield f'{namelist}.{key}: {problem}'


def _key_problem(namelist: str, key: str) -> str | None:
    name = key.partition('(')[0].lower()
    if name in TAKEN:
        return TAKEN[name]
    if key != key.lower():
        return f'write it as {key.lower()}'
    if '(' in key:
        return f'write the species into the value, as in {name}: {{Si: 1.0}}, or give a list'
    owner = next((one for one, keys in KEYS.items() if key in keys), namelist)
    if owner != namelist:
        return f'it belongs to {owner}; move it there'
    near = difflib.get_close_matches(key, KEYS[namelist], 1, NEAR)
    return f'pw.x has no such key; did you mean {near[0]}?' if near and near[0] != key else None


def _value_problem(value: Any) -> str | None:
    """Return what is wrong with a value: text that would end the entry of the namelist."""
    if isinstance(value, dict):
        return next((problem for one in value.values() if (problem := _value_problem(one))), None)
    if isinstance(value, str) and any(mark in value for mark in "'\n"):
        return f'{value!r} has a quotation mark or more than one line; remove them'
    return None


def extra_entries(extra: Mapping[Any, Mapping[str, Any]], species: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the entries for one structure.

    Parameters
    ----------
    extra : mapping
        Namelist -> key -> value. A value by element becomes one by species; elements that are not there are left out.
    species : mapping
        Species of the structure, as pw.x is told them -> element.
    """
    found: dict[str, dict[str, Any]] = {}
    for namelist, entries in extra.items():
        for key, value in entries.items():
            if isinstance(value, Mapping):
                value = {
                    name: value.get(name, value.get(element))
                    for name, element in species.items()
                    if name in value or element in value
                }
            if not (isinstance(value, Mapping) and not value):
                found.setdefault(namelist, {})[key] = value
    return found


def _validated(extra: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    if problems := list(extra_problems(extra)):
        raise ValueError('; '.join(problems))
    return extra


Extra = Annotated[dict[Literal['CONTROL', 'SYSTEM', 'ELECTRONS'], dict[str, Value]], AfterValidator(_validated)]
