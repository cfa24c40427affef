"""Factorization machine with weights for pairs of fields."""

import keras

from keras_pep.models.fm import FM, FMMixin


class FvFMMixin(FMMixin):
    """Factorization machine that weights each pair of fields.

    ```
    logit = b + sum_i w_i + sum_{f<g} <v_f * r_fg, v_g>
    ```

    The weights `r_fg`, a vector for each pair of fields, are 1 to begin with:
    the model starts as `FM`. They are weights like others: tickets rewind
    them, optimizers with L2 pull them to 0, and no budget counts them. As in
    `FM`, a field that is a list has one vector, the average, so that features
    of one field are not paired.

    Args:
        *args: Those of `FieldModel`.
        **kwargs: Those of `FM`.

    Example:

    ```python
    model = keras_pep.models.FvFM(field_sizes=[6040, 3706], embedding_dim=16)
    model.compile(
        keras_pep.optimizers.AdamL2(1e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
    )
    ```

    Reference:
        - [Pan et al., 2018](https://arxiv.org/abs/1806.03514)
        - [Sun et al., 2021](https://arxiv.org/abs/2102.12994)
    """

    _pairs_layer = "FieldPairInteraction"


@keras.saving.register_keras_serializable(package="keras_pep")
class FvFM(FvFMMixin, FM):  # noqa: D101
    __doc__ = FvFMMixin.__doc__
