"""The job that labels one candidate, and its parser."""

import json

import numpy as np
from aiida import orm
from aiida.common import CalcInfo, CodeInfo
from aiida.engine import CalcJob
from aiida.parsers import Parser

STRUCTURE, LABEL = 'structure.extxyz', 'label.json'


class EmtCalculation(CalcJob):
    """A single point with the effective medium theory of ASE."""

    @classmethod
    def define(cls, spec):
        """Define the ports and exit codes."""
        super().define(spec)
        spec.input('structure', valid_type=orm.StructureData, help='The structure.')
        spec.input('relax', valid_type=orm.Str, required=False, help='What is relaxed first: cell or positions.')
        spec.input('parameters', valid_type=orm.Dict, help='The EmtParameters.')
        options = spec.inputs['metadata']['options']
        options['parser_name'].default = 'autopipe_emt.emt'
        options['resources'].default = {'num_machines': 1, 'num_mpiprocs_per_machine': 1}
        spec.output('label', valid_type=orm.ArrayData, help='Arrays energy, forces and stress, in the units of ASE.')
        spec.output('relaxed', valid_type=orm.StructureData, required=False, help='The relaxed structure.')
        spec.exit_code(310, 'ERROR_NO_LABEL', message='The program left no label: {reason}')

    def prepare_for_submission(self, folder):
        """Write the structure and name the program."""
        with folder.open(STRUCTURE, 'w') as handle:
            self.inputs.structure.get_ase().write(handle, format='extxyz')
        run = CodeInfo()
        run.code_uuid = self.inputs.code.uuid
        relax = [self.inputs.relax.value] if 'relax' in self.inputs else []
        run.cmdline_params = ['-m', 'autopipe_emt.compute', STRUCTURE, LABEL, *relax]
        calculation = CalcInfo()
        calculation.codes_info = [run]
        calculation.retrieve_list = [LABEL, self.metadata.options.scheduler_stderr]
        return calculation


class EmtParser(Parser):
    """Read the label."""

    def parse(self, **kwargs):
        """Attach energy, forces and stress."""
        try:
            found = json.loads(self.retrieved.base.repository.get_object_content(LABEL))
        except FileNotFoundError:
            words = self.node.get_scheduler_stderr() or 'it was not started'
            return self.exit_codes.ERROR_NO_LABEL.format(reason=words.strip().splitlines()[-1])
        if 'relax' in self.node.inputs:
            cell, positions = found.pop('cell'), found.pop('positions')
            relaxed = orm.StructureData(cell=cell, pbc=self.node.inputs.structure.pbc)
            for atom, position in zip(self.node.inputs.structure.get_ase(), positions, strict=True):
                relaxed.append_atom(symbols=atom.symbol, position=position)
            self.out('relaxed', relaxed)
        self.out('label', orm.ArrayData({name: np.array(value) for name, value in found.items()}))
