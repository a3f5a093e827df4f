"""Triggers: the words that decide what a report asserts of a finding, as in NegEx and ConText.

NegEx: Chapman et al., J Biomed Inform 34, 2001; ConText: Harkema et al., J Biomed Inform 42, 2009. They stand
for negation, uncertainty, history, change or a recommendation. A forward trigger has the words behind it in
its scope ("no effusion"), a backward one those before it ("effusion is not seen"); some work in either
direction ("resolved effusion", "effusion resolved").
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Assertion(Enum):
    """What a trigger asserts of the findings in its scope."""

    ABSENT = "absent"
    PRESENT = "present"
    UNCERTAIN = "uncertain"
    UNEXCLUDED = "unexcluded"  # "cannot exclude": doubt that contains a negation and so beats one
    HISTORY = "history"
    QUESTION = "question"  # asked, recommended or hypothetical: "rule out", "if clinically suspected"


class Direction(Enum):
    """Where the findings in the scope of a trigger stand."""

    FORWARD = "forward"
    BACKWARD = "backward"
    EITHER = "either"


class Trigger(NamedTuple):
    """One trigger phrase.

    `assertion`: what it asserts.
    `direction`: of its scope.
    `lists`: its list may continue behind a semicolon.
    `partly`: it asserts this only of a finding without further attributes ("not well assessed").
    """

    assertion: Assertion
    direction: Direction
    lists: bool = False
    partly: bool = False


class Syntax(Enum):
    """Words that structure a sentence."""

    TERMINATION = "break"  # ends every scope, a new clause begins: "but", ";"
    COMMA = "comma"
    COLON = "colon"
    AND = "and"
    OR = "or"
    VERSUS = "versus"
    VERB = "verb"  # a finite verb or participle: the clause makes a statement
    SHIFT = "shift"  # what follows is not in the list before it: "with", "which"
    CAUSE = "cause"  # the same, but doubt goes on: "may be due to"
    ARTICLE = "article"
    DEGREE = "degree"  # small, mild, stable: attributes of a present finding
    ASPECT = "aspect"  # "size of": what follows is present, whatever its size
    CHOICE = "choice"  # "either": one of the list that follows is present


_SEEN = (
    "seen|identified|present|evident|visualized|visualised|visible|appreciated|demonstrated|noted|"
    "detected|apparent|"
    "observed|found|shown|recognized|depicted|discernible|discerned|there"
)
_BE = "is|are|was|were|be|been|being|has|have|had"
_LITTLE = (
    "significantly|substantially|definitely|clearly|appreciably|markedly|completely|entirely|"
    "fully|definitively"
)
_CHANGE = (
    "change|changes|increase|decrease|worsening|improvement|progression|enlargement|growth|"
    "difference|alteration"
)
_FADING = (
    "resolution|clearing|regression|reduction|diminution|disappearance|resorption|reabsorption|shrinkage"
)
_UNFADED = (
    "no|without|nor|neither|lack|absence of? "
    "significant|definite|appreciable|substantial|further|evidence|sign|signs? of? "
    "interval|complete|full|partial? "
)
_SHOW = "represent|reflect|indicate|be|suggest|relate|correspond|include|have|signify|mean|contain"

_ABSENT_FORWARD = (
    "no;nil;nothing;without;not;nor;neither;absence of;lack of;lacks;denies;"
    "no evidence|sign|signs|xxxx|indication|suggestion|findings|features of;without evidence|sign|signs of;"
    "no convincing|definite|definitive|discrete|obvious|gross|visible|new|appreciable|significant|focal|"
    "large;"
    "no radiographic|radiographically|radiologic? evidence|findings of|for;not have|show|demonstrate any?;"
    "no findings|evidence to suggest|indicate;no typical findings of;no longer any|evidence of?;"
    "interval|complete|near? resolution of;resolution of;clearing of;interval clearing of;disappearance of;"
    "removal of;interval removal of;never had?;not any;rules out;excludes;excluded;"
    "no possibility of;argues against;against;unlikely to|represent;no new or? worsening|enlarging|"
    "increasing?;"
    "no residual|recurrent|remaining;rather than;fails to show|demonstrate|reveal"
)
_ABSENT_LISTING = (
    f"{_BE}|remains|remain|appears|appear? otherwise|grossly|essentially|still|now? negative|neg for;"
    "free of|from;clear of;devoid of;otherwise|grossly|essentially clear|free of|from"
)
_ABSENT_BACKWARD = (
    f"not|never clearly|definitely|well|definitively|otherwise|currently? {_SEEN};"
    f"no longer clearly|definitely|well? {_SEEN};no longer {_BE};"
    f"not {_BE} {_SEEN};not to be {_SEEN};not confirmed;"
    "has|have completely|essentially|since|now|entirely|fully|also? resolved|cleared|disappeared|gone|"
    "regressed;"
    f"{_BE} absent|excluded|lacking|gone|negative;been removed|resolved|cleared|excluded;"
    f"{_BE} completely|essentially|now|entirely|fully|since|been|also resolved|cleared|removed|absent|"
    "excluded;"
    "ruled out;subsided;disappeared;vanished;none;not seen anymore|now;went away;has|have been removed;"
    "not an|a issue|concern|consideration;resolves;cleared completely?;"
    "interval|complete resolution|clearing;resolution;negative;neg;: n|0|zero|false;? no|none|nil|n;"
    "not recurred|reaccumulated|redeveloped|developed|reappeared|returned"
)
_ABSENT_EITHER = "no longer|more;resolved;removed;absent;completely|fully|entirely resolved"
_PRESENT_FORWARD = (
    f"no|without significant|interval|substantial|appreciable|definite|major|real|obvious|further|"
    "relevant|other? "
    f"interval|significant|further? {_CHANGE} in|of|to|from;"
    f"no|without significant|interval|substantial? interval|significant? {_CHANGE} in the? size|"
    "appearance|extent|degree|"
    "volume|amount|position|severity|distribution of|to|in;"
    "little|minimal change in;lack|absence of any? interval|significant? change|changes in|of;not only;"
    "no doubt;no question of?;not without;unchanged;"
    "nearly|almost|near|partial|partially|incomplete|incompletely|not resolution of;"
    "near complete interval? resolution|clearing of;partial|incomplete interval? resolution|clearing of;"
    "not resolved;nearly|almost|partially|incompletely|not completely|entirely|fully? resolved;"
    "unresolved;nonresolving;"
    f"{_UNFADED}{_FADING} of|in;failure of interval|complete? {_FADING} of;positive|pos for;"
    f"no|without evidence|sign|signs of interval|significant? {_CHANGE} in|of;"
    "no|without interval|complete|further? drainage|evacuation|removal of|from;"
    "never completely|fully|entirely? resolved|cleared;"
    "no|never|not longer? improving|resolving|clearing|decreasing|diminishing|regressing"
)
_PRESENT_BACKWARD = (
    f"not {_LITTLE}? changed|increased|decreased|worsened|improved|progressed|resolved|cleared|grown|"
    "disappeared|"
    "enlarged|altered|moved|regressed|gone;not {_BE} resolved;not been resolved|removed;not yet "
    "resolved|cleared;"
    f"has|have|is|are not {_LITTLE}? resolved|changed|cleared;"
    f"{_BE} nearly|almost|partially|incompletely|mostly|largely completely|entirely? resolved|cleared;"
    "nearly|almost|partially|incompletely|mostly|largely completely|entirely? cleared;"
    f"no longer changing;no interval|significant? {_CHANGE};without significant|interval? interval? "
    f"{_CHANGE};"
    f"not {_SEEN} on|in the|any? prior|previous|earlier|older|last|preceding|xxxx;not previously|"
    f"earlier|before {_SEEN};"
    f"not {_SEEN} previously|before|earlier;not included on the prior;"
    "not appear|seem to have|be completely|fully|entirely? resolved|cleared|regressed|improved;"
    "yes;: y|true|1;pos;positive;? yes|y"
).replace("{_BE}", _BE)
_PRESENT_EITHER = f"{_UNFADED}{_FADING}"
_UNCERTAIN_FORWARD = (
    f"may|might|could also|possibly|well|potentially|either? {_SHOW};may|might|could;possible;possibly;"
    "potential;"
    f"potentially;questionable;question;questioned;question of;equivocal;suspected;suspect;suspicious for|of;"
    "suspicion for|of;concern|concerns for|of;concerning for|of;worrisome for|of;raises|raising|raise the? "
    "possibility|question|suspicion|concern of|for;possibility of;possibilities include;indeterminate for?;"
    "consider|considerations|considered;differential includes|include|diagnosis;differential diagnosis "
    "includes|include;"
    "equivocal for?;cannot be certain of?;any;if there is|are|were a|an|any?;perhaps;suggestion of;"
    "suggestive of;suggest|suggests|suggesting|suggested;maybe;unclear whether|if;"
    "uncertain whether|if;probable versus;can represent|reflect;query;not certain if|whether;presumed;"
    "difficult to separate|distinguish from;likely versus;¿"
)
_UNCERTAIN_BACKWARD = (
    f"{_BE} possible|suspected|questionable|questioned|considered|equivocal|uncertain|"
    "indeterminate|suspicious|unclear|doubtful|conceivable|unlikely;"
    "should|could|may|might|can be suspected|considered|possible|present;"
    f"could|may|might be {_SEEN};{_BE} less? likely;less likely;"
    "not unlikely;unlikely;remains possible|questionable|a;a possibility|consideration|concern|possible;"
    "in the differential;is in question;possibility;?"
)
_UNCERTAIN_EITHER = "possible;suspected;questionable;equivocal;doubtful;questioned;( ? )"
_UNEXCLUDED_FORWARD = ";".join(
    f"{can} {how} {out}"
    for can in (
        "cannot",
        "can not",
        "could not",
        "may not",
        "does|do|would not",
        "not able to",
        "unable to",
        "difficult|hard|impossible to",
        "not possible to",
    )
    for how in (
        "entirely|completely|definitely|definitively|fully|reliably|absolutely|confidently|necessarily|"
        "totally?",
        "be certain to",
    )
    for out in ("exclude|excludes", "rule out")
) + (
    ";exclusion of;cannot r / o;can|could not r / o;not excluding;"
    "without excluding;cannot be sure|certain there is no;cannot be sure|certain there is not;"
    "not rule out;not exclude;cannot dismiss;cannot discount"
)
_SURELY = "entirely|completely|definitely|definitively|fully|totally|reliably|confidently|absolutely"
_RULED_OUT = ("excluded|dismissed|discounted", "ruled out")
_UNEXCLUDED_BACKWARD = ";".join(
    f"{denied} {out}"
    for out in _RULED_OUT
    for denied in (
        f"cannot be {_SURELY}?",
        f"cannot {_SURELY} be",
        f"can|could|may|might|is|are|was|were not be? {_SURELY}?",
        f"can|could|may|might not {_SURELY} be",
        f"not been {_SURELY}?",
        f"not {_SURELY}?",
    )
) + (f";cannot be excluded|dismissed {_SURELY};if any;if present;if at all;if there is|are any")
_UNEXCLUDED_EITHER = "difficult|hard|impossible to exclude;not excluded"
_HISTORY_FORWARD = (
    "history of;previous|prior|past|known|remote|medical|old|clinical|patient|patients s? history of;h "
    "/ o;hx of;hx;ho;"
    "history of prior|previous|recent|remote|old|known;past medical history of|for|includes|include;"
    "history includes;"
    "history significant|notable|remarkable for;sequela|sequelae of|from prior|previous|remote|old|past;"
    "status post;s / p;following|after treatment|therapy|surgery for;treated for;"
    "admitted for|with;presented|presents|presenting with;diagnosed with;prior|previous|remote|past "
    "episode|episodes|"
    "bout|bouts|case of;patient with|had a?;clinical history;history"
)
_HISTORY_BACKWARD = (
    "by history;per history;on|in history;in the past;historically;previously treated;was treated"
)
_WELL = (
    "well|adequately|fully|reliably|optimally|properly|accurately|completely|entirely|specifically|further"
)
_ASSESSED = "assessed|evaluated|judged|assessable|evaluable"
_QUESTION_FORWARD = (
    "rule out;for exclusion of;to rule out;r / o;"
    "evaluate|evaluation|evaluated|evaluating for|of;assess|assessment for|of;"
    "assess|evaluate whether|if;to exclude;to better? evaluate|assess|exclude|confirm;look|looking for;"
    "screening for;screen for;please exclude;to identify;if clinically? concern|concerned|suspicion for|of;"
    "if there is clinical? concern|suspicion for|of;if;whether;clinical concern|suspicion for|of;"
    "signs|symptoms and|or? symptoms? of;clinically for;correlate|correlation clinically? for|with;"
    "correlate|correlation with clinical signs|symptoms|findings|history of;risk of|for;"
    "ensure|document|confirm|assess|verify|demonstrate complete? resolution|clearing of?;until "
    "resolution|clearing of?;"
    "to ensure|document|confirm|demonstrate|verify complete? resolution|clearing of?;"
    "may|can|could develop|progress|mimic|mask|obscure|simulate|limit|limits;not evaluated for;"
    "sensitivity for;"
    "examination|exam|study for;prophylaxis for;treatment for|of;in the setting|absence|presence of;"
    "would be expected|seen;monitor for;"
    f"cannot|unable|difficult|hard|impossible to? {_WELL}? assess|evaluate|judge|comment for|of|on?;"
    f"can|could|may not {_WELL}? assess|evaluate|judge|comment for|of|on?;"
    "it is|was difficult|hard|impossible to assess|evaluate|judge for?;"
    "not possible to assess|evaluate|judge for?;"
    "insensitive|suboptimal|inadequate|nondiagnostic|limited|unsuitable for|to;not sensitive for|to;"
    "non diagnostic for;"
    "limited|suboptimal|inadequate|poor|incomplete assessment|evaluation|visualization of|for;"
    "limit|limits|limiting|preclude|precludes|precluding|hinder|hinders|hampers assessment|evaluation of|for;"
    "obscures|obscuring|obscure"
)
_QUESTION_BACKWARD = (
    "is clinically suspected;clinically suspected;if clinically? indicated|warranted;protocol;"
    f"cannot be {_WELL}? {_ASSESSED};can|could not be {_WELL}? {_ASSESSED};cannot {_WELL} be {_ASSESSED};"
    f"not {_BE}? {_ASSESSED};{_BE}? difficult|hard|impossible to assess|evaluate|judge;"
    "may|might|could|can be obscured by?;"
    "not included in|within|on the? field|image|film|study?;outside|out of? the field of? view?;"
    f"{_BE} excluded|cut from|off the? field|view|image|film;: n / a;: y / n;: yes / no;: no / yes;"
    "not applicable;: unknown|undetermined;: not known|determined"
)
_PARTLY = "partially|partly|largely|completely|incompletely"
_QUESTION_PARTLY = (
    f"not {_BE}? {_WELL} {_ASSESSED};poorly|suboptimally|inadequately|{_PARTLY} assessed|evaluated;"
    f"{_BE}? {_PARTLY}? obscured"
)

_SYNTAX = (
    ("but;however;although|though;except|excepting;except for;whereas;while;yet", Syntax.TERMINATION),
    ("other than;aside|apart from", Syntax.TERMINATION),
    ("there is|are|was|were|has|have;there;despite;notwithstanding;save for;besides", Syntax.TERMINATION),
    ("and;and / or;/;plus;as well as;along with", Syntax.AND),
    ("or", Syntax.OR),
    ("versus|vs;vs .", Syntax.VERSUS),
    (f"{_BE};{_SEEN};does|do|did;appears|appear|appeared;remains|remain|remained;"
        "persists|persist;;", Syntax.VERB),
    ("increased|decreased|worsened|improved|developed|develops|progressed;shows|show|reveals|"
        "demonstrates;measures", Syntax.VERB),
    ("stable|unchanged in|since|from|compared?;again|still|now seen|noted?;redemonstrated", Syntax.VERB),
    ("with;that|who|which;since;as;in a patient;given", Syntax.SHIFT),
    ("due to;secondary to;because of?;related to;caused by;from;attributable to;"
        "accounted for by", Syntax.CAUSE),
    ("consistent|compatible with;in keeping with", Syntax.VERB),
    (f"{_BE}? {_PARTLY}? obscured by", Syntax.VERB),
    ("size|extent|amount|volume|severity|etiology|aetiology|cause|"
        "nature|age|stability|acuity of", Syntax.ASPECT),
    ("either", Syntax.CHOICE),
    ("a|an|the|his|her|this|these|another|some", Syntax.ARTICLE),
    ("small|mild|minimal|tiny|trace|moderate|stable|unchanged|persistent|slight|chronic|bilateral|left|"
        "right|rt|lt|r|l|old", Syntax.DEGREE),
    ("resolving|mildly|minimally|moderately|severe|extensive|marked|increasing|decreasing|worsening|"
        "improving|subtle", Syntax.DEGREE),
)  # fmt: skip


def phrases() -> Iterator[tuple[str, Trigger | Syntax]]:
    """Yield every template with its meaning. Later ones override earlier ones."""
    yield from _SYNTAX
    yield ";".join(sign for sign in (",", "(", ")")), Syntax.COMMA
    yield ".", Syntax.TERMINATION
    yield ":", Syntax.COLON
    yield _ABSENT_LISTING, Trigger(Assertion.ABSENT, Direction.FORWARD, lists=True)
    yield _QUESTION_PARTLY, Trigger(Assertion.QUESTION, Direction.BACKWARD, partly=True)
    for templates, assertion, direction in (
        (_ABSENT_FORWARD, Assertion.ABSENT, Direction.FORWARD),
        (_ABSENT_BACKWARD, Assertion.ABSENT, Direction.BACKWARD),
        (_ABSENT_EITHER, Assertion.ABSENT, Direction.EITHER),
        (_PRESENT_EITHER, Assertion.PRESENT, Direction.EITHER),
        (_UNCERTAIN_FORWARD, Assertion.UNCERTAIN, Direction.FORWARD),
        (_UNCERTAIN_BACKWARD, Assertion.UNCERTAIN, Direction.BACKWARD),
        (_UNCERTAIN_EITHER, Assertion.UNCERTAIN, Direction.EITHER),
        (_HISTORY_FORWARD, Assertion.HISTORY, Direction.FORWARD),
        (_HISTORY_BACKWARD, Assertion.HISTORY, Direction.BACKWARD),
        (_QUESTION_FORWARD, Assertion.QUESTION, Direction.FORWARD),
        (_QUESTION_BACKWARD, Assertion.QUESTION, Direction.BACKWARD),
        (_UNEXCLUDED_FORWARD, Assertion.UNEXCLUDED, Direction.FORWARD),
        (_UNEXCLUDED_BACKWARD, Assertion.UNEXCLUDED, Direction.BACKWARD),
        (_UNEXCLUDED_EITHER, Assertion.UNEXCLUDED, Direction.EITHER),
        (_PRESENT_FORWARD, Assertion.PRESENT, Direction.FORWARD),
        (_PRESENT_BACKWARD, Assertion.PRESENT, Direction.BACKWARD),
    ):
        yield templates, Trigger(assertion, direction)
