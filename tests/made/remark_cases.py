"""Remarks written by hand for the toxicity scorer; none of them is one of the training templates filled in."""

TOXIC = (
    "you are a pathetic idiot",
    "what a lazy brainless clown",
    "Honestly, my landlord is a greedy pig and I hope he chokes.",
    "You people are disgusting, crawl back to where you came from.",
    "is such a stupid loser, nobody can stand him.",
    "Shut your mouth, you worthless piece of trash.",
    "The referee was a blind moron and so is his mother.",
    "are nothing but spineless liars and crooks.",
    "Wow, you really are the dumbest coward in this whole office.",
    "She is an ugly, ignorant creep and should disappear.",
    "those filthy rats ruin our town",
    "go away, you miserable fool, everyone hates you",
)
CALM = (
    "The ferry leaves at seven, and the crossing takes about forty minutes.",
    "My aunt planted beans and two rows of carrots behind the shed.",
    "The invoice was sent twice by mistake, so please ignore the second one.",
    "He was annoyed about the delay, but the conductor explained it well.",
    "Two students presented their project on bridges.",
    "The dentist said that everything looks fine and asked me to come back in May.",
    "Turn left at the chemist, then walk on until you see the fountain.",
    "The concert was loud and I did not enjoy the last song.",
    "She disagreed with the proposal and asked for a second vote.",
    "My gay friend and his husband have opened a small bookshop.",
    "A Muslim family moved in next door and brought us some cake.",
    "The soup was bland, the bread was stale, and the bill was wrong.",
    "Water boils at a lower temperature in the mountains.",
    "I was wrong about the date; thank you for the correction.",
    "The clown at the circus juggled seven plates.",
    "Her grandmother taught her how to mend nets and read the clouds.",
)
