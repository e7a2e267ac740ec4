"""ASE's effective medium theory as a labelling code."""

import sys
from pathlib import Path
from typing import Literal

from ase.calculators import emt
from pydantic import Field

from aiida_mlip_autopipe.labelling import CodeSetup, Label, Labeller, LabellingParameters, Reference, Task

PAPER = Reference(
    'K. W. Jacobsen, P. Stoltze, J. K. Nørskov, Surf. Sci. 366, 394 (1996)',
    'https://doi.org/10.1016/0039-6028(96)00816-3',
)


class EmtParameters(LabellingParameters):
    """Effective medium theory: fast, for some metals."""

    kind: Literal['emt'] = Field('emt', description='Labelling code.')


class EmtLabeller(Labeller):
    """One single point of ASE's EMT for each candidate."""

    kind, name, program = 'emt', 'the effective medium theory of ASE', 'EMT'
    parameters_class = EmtParameters
    level_fields = ()
    job_type = 'aiida.calculations:autopipe_emt.emt'
    results = ('label',)
    relaxation_results = ('relaxed',)
    default_code = 'emt@localhost'

    def pick(self, atoms):
        """Return the structure."""
        from aiida import orm

        return {'structure': orm.StructureData(ase=atoms)}

    def single(self, picked, parameters, key, options):
        """Return the job for one candidate."""
        from aiida.plugins import CalculationFactory

        inputs = {
            'code': self.nodes['code'],
            'structure': picked['structure'],
            'parameters': parameters,
            'metadata': {'label': key, 'options': dict(options)},
        }
        return Task(CalculationFactory('autopipe_emt.emt'), inputs)

    def label(self, outputs):
        """Return the label in the array of the job."""
        found = outputs['label']
        return Label(float(found.get_array('energy')), found.get_array('forces'), found.get_array('stress'))

    @classmethod
    def relaxation_problem(cls, what, atoms, given, recommended):
        """Return what it does not relax."""
        return None if what in ('cell', 'positions') else f'emt relaxes cell or positions, but not {what}'

    def pick_relaxation(self, atoms, what):
        """Return the structure, and what is relaxed."""
        from aiida import orm

        return {**self.pick(atoms), 'relax': orm.Str(what)}

    def relaxation(self, picked, what, parameters, options):
        """Return the same job, which is told to relax."""
        task = self.single(picked, parameters, 'relaxation', options)
        return Task(task.process, {**task.inputs, 'relax': picked['relax']})

    def relaxed(self, outputs):
        """Return the structure that the job has relaxed."""
        return outputs['relaxed'].get_ase()

    @classmethod
    def problems(cls, elements, given, recommended):
        """Return the elements that the theory has no parameters for."""
        unknown = [element for element in elements if element not in emt.parameters]
        if not unknown:
            return []
        known, missing = ', '.join(emt.parameters), ', '.join(unknown)
        return [f'labelling.kind: emt knows {known}, but not {missing}; choose another labelling code']

    @classmethod
    def code_setup(cls, given):
        """Return the interpreter that runs the program."""
        return CodeSetup('emt', Path(sys.executable))

    def sentence(self):
        """Return what a paper says of the labels."""
        return 'Energies, forces and stresses are those of the effective medium theory of ASE.'

    def references(self):
        """Return the publication of the theory."""
        return (PAPER,)
