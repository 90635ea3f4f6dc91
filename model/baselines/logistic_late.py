"""LogisticLate: one multinomial logistic regression per modality, probabilities averaged."""

from torch import nn

from nmcl.model.base import Epoch, Features, Mask, Member, Output, Shape
from nmcl.model.baselines.fusion import late_output
from nmcl.model.baselines.logistic import Logistic, LogisticSettings
from nmcl.model.data import Dataset
from nmcl.pipeline.progress import Progress, within


class LogisticLate(Member):
    """Linear late fusion. Each modality's penalty is chosen separately; completed vectors count as observed.

    There is no single source: it is the usual first baseline for any trained fusion.
    """

    def __init__(self, shape: Shape, settings: LogisticSettings) -> None:
        super().__init__()
        self.settings = settings
        self.names = list(shape.dims)
        self.logistics = [Logistic(Shape({name: dim}, shape.classes), settings) for name, dim in shape.dims.items()]
        self.branches = nn.ModuleList(self.logistics)  # what the state dict sees of them

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        n_tries = len(self.settings.inverse_penalties)
        for i, (name, branch) in enumerate(zip(self.names, self.logistics, strict=True)):
            piece = within(progress, "train", i * n_tries, len(self.names) * n_tries)
            branch.fit(train.only([name]), validation.only([name]), seed, piece)
        return ()

    def refit(self, rows: Dataset, seed: int, progress: Progress) -> None:
        for name, branch in zip(self.names, self.logistics, strict=True):
            branch.refit(rows.only([name]), seed, progress)

    def forward(self, features: Features, observed: Mask) -> Output:
        return late_output(
            {
                name: branch({name: features[name]}, observed).log_probability
                for name, branch in zip(self.names, self.logistics, strict=True)
            }
        )
