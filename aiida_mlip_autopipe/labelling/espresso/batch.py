"""Many labels in one job: pw.x runs for one candidate after the other.

A job of its own costs AiiDA more than a small cell costs pw.x, and a place in the queue. Here both are shared. The
candidates do not become nodes: the job takes the set and the places of its candidates in it, and gives one array. One
pw.x that fails leaves the others as they are; what it would have told, its candidate tells when it is labelled alone.
"""

from __future__ import annotations

from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo, CodeRunMode
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.plugins import DataFactory

from aiida_mlip_autopipe.calculations.worker_job import validate_parameters
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.espresso.inputs import PSEUDO_FOLDER, dft_of, pseudo_file, pw_input
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.pipeline.exit_codes import NO_LABEL, NOT_ALL_LABELLED, add_exit_codes

__all__ = ['PwBatchCalculation']

UpfData = DataFactory('pseudo.upf')


class PwBatchCalculation(CalcJob):
    """Run pw.x for several candidates of a set, one after the other."""

    PREFIX = 'pw'

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and exit codes."""
        super().define(spec)
        spec.input('candidates', valid_type=FramesData, help='The set of candidates.')
        spec.input(
            'indices',
            valid_type=orm.List,
            serializer=orm.to_aiida_type,
            help='Indices of the candidates in the set, in order.',
        )
        spec.input(
            'parameters',
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=validate_parameters(EspressoParameters),
            help='The EspressoParameters.',
        )
        spec.input_namespace('pseudos', valid_type=UpfData, help='A pseudopotential for each element.')
        options = spec.inputs['metadata']['options']
        options['resources'].default = lambda: {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        options['withmpi'].default = True
        options['parser_name'].default = 'mlip_autopipe.pw_batch'
        spec.output(
            'labels',
            valid_type=orm.ArrayData,
            help='Arrays energy (eV), forces (eV/Å, of all one after the other), stress (eV/Å³, as xx, yy, zz, yz, '
            'xz, xy, with the sign of ASE) and n_atoms, a row for each label, with magnetisation and moments (µB), '
            'Fermi energy (eV) and SCF steps, NaN where there is none; attributes index and keys, of the labels, and '
            'failed, the reason of each candidate without one.',
        )
        add_exit_codes(spec, NO_LABEL, NOT_ALL_LABELLED)

    @classmethod
    def input_file(cls, index: int) -> str:
        """Return the name of the input file of a candidate."""
        return f'pw_{index}.in'

    @classmethod
    def output_file(cls, index: int | str) -> str:
        """Return the name of the file that takes what pw.x prints of a candidate."""
        return f'pw_{index}.out'

    @classmethod
    def result_file(cls, index: int | str) -> str:
        """Return the name of the file with the results of a candidate."""
        return f'{cls._outdir(index)}/{cls.PREFIX}.save/data-file-schema.xml'

    @classmethod
    def _outdir(cls, index: int | str) -> str:
        return f'out_{index}'

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write an input file for each candidate and list the runs."""
        labelling = EspressoParameters(**self.inputs.parameters.get_dict())
        pseudos = self.inputs.pseudos
        z_valence = {element: pseudo.z_valence for element, pseudo in pseudos.items()}
        dft = dft_of(labelling, pseudos)
        frames = self.inputs.candidates.get_atoms()
        calculation = CalcInfo()
        calculation.codes_info = []
        calculation.codes_run_mode = CodeRunMode.SERIAL
        for index in self.inputs.indices.get_list():
            text = pw_input(frames[index], labelling, z_valence, self._outdir(index), self.PREFIX, dft)
            with folder.open(self.input_file(index), 'w') as handle:
                handle.write(text)
            run = CodeInfo()
            run.code_uuid = self.inputs.code.uuid
            run.cmdline_params = ['-in', self.input_file(index)]
            run.stdout_name = self.output_file(index)
            calculation.codes_info.append(run)
        calculation.local_copy_list = [
            (pseudo.uuid, pseudo.filename, f'{PSEUDO_FOLDER}/{pseudo_file(element)}')
            for element, pseudo in pseudos.items()
        ]
        calculation.retrieve_list = []
        # The depths keep the folder of each candidate's results: the files have the same name in all of them.
        calculation.retrieve_temporary_list = [
            (self.result_file('*'), '.', 3),
            (self.output_file('*'), '.', 1),
        ]
        return calculation
