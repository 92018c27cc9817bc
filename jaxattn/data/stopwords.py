"""English words of the closed classes: they tell of grammar, hardly of content.

Articles, pronouns, prepositions, conjunctions, auxiliaries and their contractions;
written down class by class, without negations, which carry polarity.
"""

STOP_WORDS = frozenset(
    """
    a an the
    i me my mine myself we us our ours ourselves you your yours yourself yourselves
    he him his himself she her hers herself it its itself they them their theirs
    themselves one this that these those who whom whose which what each either some any
    all both another other such
    about above across after against along among around as at before behind below
    beneath beside between beyond by down during for from in inside into near of off on
    onto out outside over per since through throughout to toward towards under until up
    upon via with within
    and or but so if because while although though unless whether than then when where
    why how
    am is are was were be been being have has had having do does did doing will would
    shall should can could may might must ought
    i'm you're he's she's it's we're they're i've you've we've they've i'd you'd he'd
    she'd we'd they'd i'll you'll he'll she'll it'll we'll they'll that's who's what's
    here's there's there here
    """.split()
)
