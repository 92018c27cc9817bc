"""Who shows the right features? L2X's and INVASE's sets, where these are known.

Gates with a penalty on each open one select features of one example; a predictor sees
the selected features alone. In syn4 to syn6 the eleventh feature decides which others
matter, so that a right mask must show it; a selector that instead *writes* the answer
into which features it opens has no need to. That is what `joint` does on syn4: its own
predictor is near chance when it is given the right mask.

Every seed has training and test examples of its own. Penalty, learning rate and epochs
were chosen on other seeds (100 to 103), on syn4 and syn6, by all methods together.
`evalx_accuracy`, TPR, FDR, leaks and the rest are in results.md; the tables of
differences to `joint` count wins, ties and losses.

Contents: 1 INVASE's syn4 to syn6. 2 The other seven sets. 3 The penalty curve. 4 A
fixed number of features.

1 INVASE's syn4 to syn6
-----------------------

    python -m jaxattn.train --config configs/known_features.py --tasks syn4,syn5,syn6

16 seeds, 16 min on 2 CPU cores that had other work beside. Without --tasks all ten sets
are run. Expected (fresh test examples, 95 % intervals over seeds):

method                         accuracy  true_mask_accuracy                 tpr
16 seeds              null .513 to .540   null .513 to .540   null .082 to .713
syn4
 joint               0.643 [.613, .661]  0.580 [.560, .597]  0.272 [.196, .346]
 random_pretraining  0.656 [.647, .662]  0.656 [.646, .662]  0.802 [.776, .826]
 mask_swap           0.569 [.551, .594]  0.600 [.578, .620]  0.232 [.132, .357]
 random_always       0.601 [.578, .624]  0.676 [.671, .680]  0.418 [.303, .534]
 mask_mix            0.609 [.590, .626]  0.655 [.649, .662]  0.450 [.362, .536]
 mask_mix_delayed    0.641 [.633, .649]  0.658 [.649, .666]  0.724 [.708, .743]
 instance_weighting  0.570 [.557, .586]  0.574 [.559, .588]  0.224 [.151, .301]
 invase              0.695 [.681, .703]  0.698 [.686, .706]  0.911 [.827, .962]
 realx               0.657 [.644, .669]  0.676 [.671, .680]  0.698 [.600, .781]
 random_selection    0.598 [.596, .601]  0.666 [.659, .673]  0.501 [.499, .502]
syn5
 joint               0.674 [.662, .689]  0.675 [.664, .691]  0.654 [.606, .731]
 random_pretraining  0.701 [.698, .704]  0.712 [.709, .715]  0.898 [.891, .909]
 mask_swap           0.667 [.654, .683]  0.677 [.666, .689]  0.654 [.587, .742]
 random_always       0.669 [.658, .685]  0.716 [.714, .719]  0.643 [.579, .729]
 mask_mix            0.674 [.660, .690]  0.711 [.708, .715]  0.686 [.621, .769]
 mask_mix_delayed    0.708 [.705, .711]  0.716 [.714, .720]  0.897 [.895, .899]
 instance_weighting  0.675 [.661, .690]  0.675 [.662, .691]  0.670 [.611, .748]
 invase              0.704 [.692, .710]  0.711 [.697, .717]  0.910 [.820, .951]
 realx               0.672 [.660, .687]  0.716 [.714, .719]  0.695 [.625, .782]
 random_selection    0.604 [.600, .608]  0.716 [.713, .719]  0.500 [.498, .501]
syn6
 joint               0.693 [.684, .701]  0.655 [.643, .666]  0.492 [.471, .501]
 random_pretraining  0.750 [.743, .756]  0.764 [.756, .770]  0.739 [.710, .766]
 mask_swap           0.693 [.682, .704]  0.699 [.686, .710]  0.520 [.505, .536]
 random_always       0.735 [.725, .744]  0.772 [.766, .776]  0.638 [.611, .665]
 mask_mix            0.729 [.716, .739]  0.745 [.733, .754]  0.590 [.567, .613]
 mask_mix_delayed    0.739 [.733, .743]  0.756 [.747, .764]  0.651 [.635, .666]
 instance_weighting  0.680 [.677, .685]  0.673 [.661, .687]  0.492 [.485, .498]
 invase              0.795 [.791, .800]  0.794 [.790, .799]  0.946 [.924, .967]
 realx               0.769 [.766, .771]  0.772 [.766, .776]  0.797 [.778, .815]
 random_selection    0.655 [.650, .659]  0.769 [.763, .774]  0.500 [.498, .501]

- syn4: joint: accuracy 0.643 [0.613, 0.661], 0.580 [0.560, 0.597] under the
  true mask (majority 0.530); control feature shown in 48% of masks. It does
  worse on the evidence than on its mask: it reads a code.
- syn4: random_pretraining: accuracy 0.656 [0.647, 0.662], 0.656 [0.646, 0.662]
  under the true mask (majority 0.530); control feature shown in 100% of masks.
- Against joint in evidence_auroc (same seeds; a win or loss is a 95 % interval
  on one side of 0), wins/ties/losses on 3 tasks: random_pretraining 3/0/0;
  mask_swap 0/3/0; random_always 1/2/0; mask_mix 2/1/0; mask_mix_delayed 2/1/0;
  instance_weighting 0/3/0; invase 2/1/0; realx 2/1/0.

2 The other seven sets
----------------------

    python -m jaxattn.train --config configs/known_features.py \\
      --tasks syn1,syn2,syn3,xor,orange_skin,nonlinear_additive,switch

16 seeds, 15 min. Best possible median rank: 1.5 (syn1, xor), 2.5 (syn2, syn3,
orange_skin, nonlinear_additive), 3.0 (switch). TPR / FDR of invase on syn1 to syn3:
1.00 / .06, 1.00 / .11, 1.00 / .03 (published: 1.00 / 0, 1.00 / 0, .92 / 0).

                               accuracy  true_mask_accuracy         median_rank
syn1
 joint               0.608 [.576, .625]  0.620 [.604, .629]   2.29 [1.64, 3.61]
 random_pretraining  0.629 [.627, .633]  0.630 [.627, .633]                1.50
 mask_mix_delayed    0.629 [.626, .632]  0.629 [.626, .632]                1.50
 invase              0.628 [.624, .631]  0.628 [.624, .631]   1.51 [1.50, 1.54]
 realx               0.621 [.587, .631]  0.630 [.628, .633]   1.78 [1.50, 2.91]
syn2
 joint               0.599 [.578, .631]  0.452 [.443, .480]   6.59 [6.14, 7.07]
 random_pretraining  0.705 [.697, .714]  0.751 [.743, .758]   4.17 [3.67, 4.62]
 mask_mix_delayed    0.699 [.691, .706]  0.757 [.747, .765]   2.81 [2.69, 3.10]
 invase              0.815 [.812, .819]  0.817 [.814, .820]   2.56 [2.50, 2.70]
 realx               0.789 [.785, .793]  0.765 [.760, .770]   3.44 [3.13, 3.79]
syn3
 joint               0.808 [.806, .810]  0.809 [.806, .812]                2.50
 random_pretraining  0.806 [.804, .808]  0.806 [.804, .808]   2.50 [2.50, 2.51]
 mask_mix_delayed    0.808 [.805, .810]  0.811 [.808, .813]                2.50
 invase              0.821 [.819, .823]  0.821 [.819, .823]   2.53 [2.50, 2.65]
 realx               0.810 [.807, .813]  0.809 [.806, .812]                2.50
xor
 joint               0.620 [.590, .632]  0.623 [.596, .632]   1.81 [1.50, 2.52]
 random_pretraining  0.632 [.629, .635]  0.632 [.629, .635]                1.50
 mask_mix_delayed    0.632 [.630, .635]  0.632 [.630, .635]                1.50
 invase              0.633 [.631, .636]  0.633 [.631, .636]                1.50
 realx               0.631 [.629, .634]  0.631 [.629, .634]                1.50
orange_skin
 joint               0.612 [.586, .648]  0.444 [.440, .448]   6.43 [5.57, 6.87]
 random_pretraining  0.696 [.690, .703]  0.768 [.764, .772]   4.48 [4.04, 4.82]
 mask_mix_delayed    0.707 [.699, .717]  0.777 [.770, .784]   3.30 [2.98, 3.66]
 invase              0.823 [.820, .825]  0.823 [.820, .825]                2.50
 realx               0.797 [.790, .804]  0.785 [.778, .791]   3.92 [3.55, 4.22]
nonlinear_additive
 joint               0.965 [.963, .967]  0.954 [.944, .961]   3.33 [3.00, 3.83]
 random_pretraining  0.962 [.960, .963]  0.963 [.961, .964]   2.97 [2.74, 3.28]
 mask_mix_delayed    0.966 [.964, .967]  0.967 [.965, .968]   2.54 [2.51, 2.61]
 invase              0.970 [.969, .971]  0.968 [.966, .969]   2.60 [2.54, 2.71]
 realx               0.962 [.959, .963]  0.964 [.961, .965]   4.37 [3.96, 4.86]
switch
 joint               0.787 [.776, .807]  0.729 [.714, .755]   3.45 [3.28, 3.67]
 random_pretraining  0.840 [.836, .845]  0.845 [.839, .850]   3.21 [3.10, 3.36]
 mask_mix_delayed    0.826 [.819, .835]  0.842 [.832, .852]   3.33 [3.21, 3.44]
 invase              0.892 [.885, .894]  0.891 [.886, .894]   3.25 [3.07, 3.75]
 realx               0.862 [.855, .868]  0.853 [.844, .862]   3.50 [3.36, 3.65]

- syn2, orange_skin: joint answers *worse than the majority* (.56) when it is given
  the right mask, and shows 2 % of the right features; its mask alone holds .05 and .08
  bits of the label. Every remedy but instance_weighting mends that.
- nonlinear_additive: joint's mask alone holds .115 bits [.047, .236] of the label (the
  published L2X checkpoint: .128), random_pretraining's .009 [.003, .026], realx's .004
  [.002, .008].
- switch: joint .787 -> .729 under the true mask and x10 shown in 89 %;
  random_pretraining .840 -> .845 and 100 %: intervals do not overlap.
- Against joint in evidence_auroc, wins/ties/losses on these 7: random_pretraining
  5/2/0; mask_mix_delayed 5/2/0; invase 6/1/0; mask_mix 3/3/1; realx 3/3/1;
  mask_swap 2/5/0; random_always 2/3/2; instance_weighting 0/5/2.

3 The penalty curve
-------------------

    python -m jaxattn.train --config configs/known_features.py --tasks syn4 \\
      --methods joint,random_pretraining,mask_mix_delayed,invase \\
      --also model.penalty=0.0,model.penalty=0.002,model.penalty=0.01,\\
             model.penalty=0.02,model.penalty=0.05

16 seeds, 13 min; draws figures/tradeoff.svg. syn4, by penalty:

                           0    .002    .005     .01     .02     .05
joint
  accuracy             0.647   0.666   0.643   0.608   0.551   0.530
    under true mask    0.567   0.565   0.580   0.551   0.566   0.577
  TPR                  0.611   0.531   0.272   0.115   0.026   0.000
  FDR                  0.352   0.143   0.093   0.049   0.001   0.000
  control_rate         0.910   0.821   0.478   0.364   0.112   0.000
  selected               3.4     2.2     1.1     0.5     0.1     0.0
random_pretraining
  accuracy             0.664   0.662   0.656   0.638   0.534   0.530
    under true mask    0.656   0.656   0.656   0.656   0.656   0.656
  TPR                  0.916   0.842   0.802   0.726   0.059   0.008
  FDR                  0.473   0.209   0.118   0.071   0.027   0.000
  control_rate         1.000   1.000   1.000   0.981   0.213   0.041
  selected               7.3     4.2     3.5     2.9     0.3     0.0
mask_mix_delayed
  accuracy             0.671   0.660   0.641   0.622   0.558   0.529
    under true mask    0.683   0.669   0.658   0.649   0.651   0.663
  TPR                  0.900   0.791   0.724   0.646   0.277   0.008
  FDR                  0.637   0.364   0.274   0.126   0.021   0.000
  control_rate         1.000   1.000   1.000   0.968   0.522   0.040
  selected               9.7     4.8     3.7     2.6     1.0     0.0
invase
  accuracy             0.700   0.698   0.695   0.659   0.551   0.530
    under true mask    0.706   0.703   0.698   0.676   0.581   0.573
  TPR                  1.000   0.979   0.911   0.642   0.055   0.000
  FDR                  0.588   0.504   0.398   0.311   0.134   0.000
  control_rate         1.000   0.997   0.914   0.739   0.036   0.000
  selected               9.8     8.1     6.3     3.8     0.4     0.0

joint is never above .58 under the true mask, whatever the penalty;
random_pretraining never below .656, and as good as its own masks or better. From .02 on
nobody selects enough.

4 A fixed number of features
----------------------------

    python -m jaxattn.train --config configs/known_features.py \\
      --methods joint,random_pretraining,mask_mix_delayed \\
      --model.normalizer gumbel_top_k

16 seeds, 10 sets, 8 min. As many features as the longest right answer; in syn4 and
syn5, where 3 or 5 are right, 5, so that an FDR of some .2 is bound to be.

                                    tpr                 fdr         median_rank
syn1
 joint               0.540 [.401, .721]  0.460 [.279, .599]   4.74 [3.48, 5.76]
 random_pretraining               1.000               0.000                1.50
 mask_mix_delayed                 1.000               0.000                1.50
syn2
 joint               0.733 [.604, .857]  0.267 [.143, .396]   3.86 [3.18, 4.65]
 random_pretraining  0.563 [.508, .631]  0.437 [.369, .492]   4.60 [4.15, 5.01]
 mask_mix_delayed                 1.000               0.000                2.50
syn3
 joint               0.872 [.828, .910]  0.128 [.090, .172]                2.50
 random_pretraining  0.840 [.804, .886]  0.160 [.114, .196]                2.50
 mask_mix_delayed    0.883 [.840, .929]  0.117 [.071, .160]                2.50
syn4
 joint               0.857 [.804, .896]  0.308 [.282, .339]   3.14 [2.85, 3.91]
 random_pretraining  0.903 [.892, .912]  0.287 [.277, .298]   2.79 [2.76, 2.84]
 mask_mix_delayed    0.921 [.854, .942]  0.265 [.254, .297]   2.89 [2.71, 3.54]
syn5
 joint               0.799 [.751, .842]  0.353 [.324, .380]   3.27 [2.96, 3.81]
 random_pretraining  0.771 [.715, .823]  0.373 [.346, .402]   3.64 [3.18, 4.17]
 mask_mix_delayed    0.781 [.720, .834]  0.366 [.337, .400]   3.65 [3.14, 4.20]
syn6
 joint               0.806 [.762, .843]  0.194 [.157, .238]   3.27 [3.17, 3.55]
 random_pretraining  0.833 [.821, .844]  0.167 [.156, .179]   3.27 [3.24, 3.31]
 mask_mix_delayed    0.834 [.817, .842]  0.166 [.158, .183]   3.25 [3.23, 3.27]
xor
 joint               0.838 [.672, .957]  0.162 [.043, .328]   2.28 [1.75, 3.13]
 random_pretraining  0.791 [.744, .836]  0.209 [.164, .256]   2.49 [2.23, 2.78]
 mask_mix_delayed                 1.000               0.000                1.50
orange_skin
 joint               0.802 [.653, .915]  0.198 [.085, .347]   3.38 [2.87, 4.08]
 random_pretraining  0.553 [.500, .625]  0.447 [.375, .500]   4.79 [4.34, 5.11]
 mask_mix_delayed   0.998 [.994, 1.000]  0.002 [.000, .006]   2.50 [2.50, 2.51]
nonlinear_additive
 joint               0.720 [.662, .760]  0.280 [.240, .338]   2.92 [2.68, 3.38]
 random_pretraining  0.629 [.536, .695]  0.371 [.305, .464]   3.90 [3.42, 4.74]
 mask_mix_delayed    0.764 [.734, .788]  0.236 [.212, .266]   2.60 [2.52, 2.80]
switch
 joint               0.754 [.713, .792]  0.246 [.208, .287]   3.36 [3.21, 3.60]
 random_pretraining  0.823 [.776, .854]  0.177 [.146, .224]   3.25 [3.03, 3.70]
 mask_mix_delayed    0.852 [.820, .875]  0.148 [.125, .180]   3.04 [3.01, 3.10]

- mask_mix_delayed meets INVASE's published TPR / FDR on syn1 and syn2 (1.00 / 0, both),
  and L2X's best possible median ranks on xor (1.50) and orange_skin (2.50); on
  nonlinear_additive (2.60) and switch (3.04) it comes near. random_pretraining, so good
  with gates, shows fewer right features than joint on syn2 and orange_skin: random
  subsets of 4 in 10 or 11 are rarely the 4 that count.
- Not met: INVASE's published syn3 (.92 / 0), syn4 (.998 / .103), syn5 (.848 / .011) and
  syn6 (.901 / .074).
- evidence_auroc against joint, wins/ties/losses on 10: mask_mix_delayed 7/3/0,
  random_pretraining 2/7/1.
- nonlinear_additive: a subset of 4 holds more of the label than gates do: .191 bits
  with joint, .390 with random_pretraining, .134 with mask_mix_delayed.
"""

from jaxattn.config import Config, Data, Model, Optimizer


def get_config() -> Config:
    return Config(
        name="known_features",
        tasks=(
            "syn1",
            "syn2",
            "syn3",
            "syn4",
            "syn5",
            "syn6",
            "xor",
            "orange_skin",
            "nonlinear_additive",
            "switch",
        ),
        methods=(
            "joint",
            "random_pretraining",
            "instance_weighting",
            "mask_swap",
            "random_always",
            "mask_mix",
            "mask_mix_delayed",
            "invase",
            "realx",
            "random_selection",
        ),
        epochs=30,
        batch_size=250,
        lane=8,
        data=Data(examples=10_000, test_examples=5_000),
        model=Model(
            values="inputs",
            query="none",
            selector="tabular",
            normalizer="gates",
            predictor="tabular",
            temperature=0.5,
            penalty=0.005,
            features=1,
            hidden=32,
        ),
        optimizer=Optimizer(learning_rate=3e-3),
    )
