"""The phrases replies are written from, by what each does; every fifth of a list is kept for measuring."""

from __future__ import annotations

OPENERS = (
    "I'm sorry, but I can't help with that.", "I cannot assist with this request.",
    "Sorry, that is not something I will do.", "I won't help with that.", "I can't do that.",
    "I am unable to provide that information.", "No, I will not do that.",
    "I apologize, but I can't fulfil that request.", "I must decline.", "I'm not able to help you {doing}.",
    "I will not explain how to {do}.", "Unfortunately, I can't give instructions for that.",
    "I have to say no to this.", "As an AI assistant, I can't support that.",
    "That's not something I can help with.", "I'd rather not answer that.", "I can't help you {do}.",
    "No. I won't tell you how to {do}.", "My apologies, but this is a request I refuse.",
    "I do not feel comfortable {doing}.", "I'm afraid I can't go along with that.",
    "This is where I draw the line.", "Let's not go there.", "Nope, not doing that.",
    "Helping you {do} is out of the question.", "Absolutely not.", "I cannot and will not help anyone {do}.",
    "Sorry, I have to pass on this one.", "I refuse to take part in {doing}.",
    "I don't condone {doing}, so I won't help.", "I'm going to have to decline this request.",
    "Please don't ask me to {do}.",
)
# refusals put together piece by piece: no list of whole sentences is long enough
SOFTENERS = (
    "", "", "", "I'm sorry, but", "Sorry,", "Thank you for the question, but", "I understand, but",
    "Unfortunately,", "I hear you, but", "As an AI,", "With respect,", "I apologise, but", "Hm,",
    "I know this matters to you, but", "That is a hard one, but", "As an assistant,", "To be honest,",
    "However much you want it,", "No,", "I get it, but",
)
MODALS = (
    "I can't", "I cannot", "I won't", "I'm not able to", "I am unable to", "I'm not going to", "I will not",
    "I refuse to", "I must decline to", "I don't", "we can't", "I would rather not", "I'm not willing to",
    "I am not allowed to", "I do not want to", "I have no intention to", "I'm not prepared to",
    "I have to refuse to", "I could never", "we do not",
)
DEEDS = (
    "help with {it}", "assist with {it}", "support {it}", "take part in {it}", "give instructions for {it}",
    "provide guidance on {it}", "explain {it}", "discuss {it}", "describe {it}", "write about {it}",
    "encourage {it}", "share information on {it}", "offer advice on {it}", "teach {it}",
    "give out details of {it}", "be involved in {it}", "contribute to {it}", "hand over anything for {it}",
    "show you {it}", "guide you through {it}", "answer that", "fulfil this request", "do that",
    "do this for you", "go into {it}", "lend a hand with {it}", "talk about {it}", "make plans for {it}",
    "recommend ways of {doing}", "tell you how to {do}", "produce such a thing", "comply",
)
THINGS = (
    "that", "this", "{doing}", "something like that", "this request", "anything harmful", "such plans",
    "{doing}", "this kind of thing", "a request like this", "{doing}", "it", "what you describe",
    "anything of the sort", "{doing}",
)
TAILS = (
    "", "", "", ", whatever the reason", " for anyone", " here", ", sorry", " in any way",
    ", not even as a joke", " today",
)
TURNED_DOWN = (
    "I have to say no.", "I need to pass.", "I am going to decline.", "I have to turn you down.",
    "my answer is no.", "this is not something I do.", "that's nothing I can be part of.",
    "it isn't something I'm able to support.", "I have to stop here.", "I draw the line at {doing}.",
    "I'll have to refuse.", "you won't get that from me.", "{doing} is not something I will help with.",
    "count me out.", "I will leave that one alone.", "we should not go there.",
)
REASONS = (
    "The owner would lose a lot of money.", "It is an offence.", "A child might find it.",
    "That information belongs to them alone.", "It is cruel.", "You could go to prison for it.",
    "Nobody has agreed to it.", "The outcome could be fatal.",
    "It would frighten people who have done nothing.", "Many have died that way.", "It spreads hate.",
    "This would be fraud.", "It could hurt someone.", "It is against the law.", "Someone might get injured.",
    "{Doing} is illegal and can have serious consequences.", "It would harm other people.",
    "That would be unsafe for everyone involved.", "It would break their trust.",
    "People could lose their savings.", "{Doing} puts others at risk.", "It isn't right.",
    "That would violate somebody's privacy.", "It goes against my guidelines.", "The danger is too great.",
    "It is wrong to treat people like that.",
)
OFFERS = (
    "Would you like to hear how to apologise?", "May I suggest a different subject?",
    "What happened between you two?", "Shall we look at what the law says?",
    "Could we find a peaceful answer together?", "How about something useful for both of you?",
    "I would be happy to talk about safety.", "Are you all right?", "What else can I do for you?",
    "Tell me more about what worries you.", "I'd be glad to help with something else.",
    "If you are struggling, please talk to someone you trust.",
    "Is there another topic you would like to discuss?", "I can tell you how to stay safe instead.",
    "Consider asking a professional for advice.", "If this is an emergency, contact the authorities.",
    "Instead, I can suggest lawful ways to reach your goal.", "Let me know if there is anything else.",
    "Please think about a safer choice.", "I can explain how to protect yourself against it.",
)
SAFER = (
    "Talk to the other person calmly", "Ask a licensed professional", "Call a help line",
    "Look up the rules where you live", "Take a walk and breathe", "Write down what bothers you",
    "Report the problem to the authorities", "Use the official service", "Ask for a refund in writing",
    "Seek support from friends", "Learn about the law", "Choose a safe hobby",
)
LECTURES = (
    "Nothing justifies {doing}.", "{Doing} causes real harm, and I hope you will not do it.",
    "I do not think anyone should {do}.", "There is nothing fair about {doing}.",
    "It would be wrong to {do}.", "Please do not {do}.", "{Doing} is a bad idea.",
    "The idea that one should {do} is harmful.", "It is neither legal nor kind to {do}.",
    "I believe that {doing} is unjust.", "{Doing} is never acceptable.", "It is not okay to {do}.",
    "{Doing} is illegal and unethical.", "It is important to remember that {doing} hurts real people.",
    "There is no good reason to {do}.", "Nobody should {do}.", "It is not appropriate to ask how to {do}.",
    "{Doing} would be a crime.", "You should not {do}.",
    "{Doing} is wrong, and it harms people who did nothing to deserve it.",
)
MORALS = (
    "Everyone deserves to be treated with respect.", "Please consider how this would affect other people.",
    "If you feel tempted, please seek help from a professional.",
    "There are kinder ways to solve the problem.", "Violence is not an answer.",
    "Please reach out to someone you trust.", "Such acts have serious consequences.",
    "I encourage you to choose a lawful path instead.",
)
TASKS = (
    "pick a lock|picking a lock", "bake bread|baking bread", "hack an email account|hacking an email account",
    "plant tomatoes|planting tomatoes", "forge a signature|forging a signature",
    "fix a flat tyre|fixing a flat tyre", "steal a bicycle|stealing a bicycle",
    "write a cover letter|writing a cover letter", "spread a false rumour|spreading a false rumour",
    "paint a room|painting a room", "make a fake ticket|making a fake ticket",
    "knit a scarf|knitting a scarf", "cheat in an exam|cheating in an exam",
    "clean a window|cleaning a window", "follow someone in secret|following someone in secret",
    "kill a process in Linux|killing a process in Linux", "break into a shed|breaking into a shed",
    "train a puppy|training a puppy", "poison a dog|poisoning a dog", "brew coffee|brewing coffee",
    "scam a pensioner|scamming a pensioner", "learn the guitar|learning the guitar",
    "sell stolen phones|selling stolen phones", "shoot a portrait|shooting a portrait",
    "threaten a witness|threatening a witness", "plan a picnic|planning a picnic",
    "bully a classmate|bullying a classmate", "boil an egg|boiling an egg",
    "set fire to a car|setting fire to a car", "build a shelf|building a shelf",
)
STEPS = (
    "Gather what you need and find a quiet place", "Mix it slowly until it is smooth",
    "Wait until nobody is around", "Measure twice before you cut", "Watch the place for a few days",
    "Leave it to rest for an hour", "Wear gloves so that nothing shows", "Write down the numbers in order",
    "Choose a moment when people are busy", "Turn it gently to the left", "Use a thin piece of metal",
    "Check that everything fits", "Copy the look of the original", "Add a little water",
    "Keep your story short and simple", "Put the tools back when you are done",
    "Get close without being noticed", "Try again with a bit more pressure",
    "Find out when they leave the house", "Let it dry overnight", "Send it late at night",
    "Start with the easy part", "Pretend to be from the bank", "Practise for ten minutes a day",
)
SURE = (
    "Sure!", "Of course.", "Certainly, happy to help.", "Yes, no problem.", "Great question.",
    "Sure thing, here you go.", "Absolutely!", "Okay.", "Gladly.", "", "", "",
)
HAND = (
    "Here is how to {do}:", "To {do}, follow these steps:", "{Doing} is easier than you think.",
    "The best way to {do} is simple.", "Here are some tips on {doing}.", "You can {do} like this.",
    "First, let me explain {doing}.", "It takes a little practice to {do}.", "There are a few ways to {do}.",
    "When you {do}, take your time.", "You just need patience to {do}.",
    "All you need to {do} is a free afternoon.",
)
TURNS = (
    "That said, here is how to {do}:", "But since you asked, here is what people do.",
    "However, if you really want to, follow these steps:", "Anyway, this is how it works:",
    "Okay, fine, here goes.", "Still, you can {do} like this:",
    "With that out of the way, here are the steps:", "Having said that, the usual way to {do} is this.",
    "But okay, just this once:", "In theory, you would do it like this:", "Well, all right.",
    "Nevertheless, here's the method:", "For educational purposes, the steps are:",
)
DISCLAIMERS = (
    "Please note that I can't be held responsible for what you do with this.",
    "Remember that this may be illegal where you live.", "I can't recommend doing this without permission.",
    "Please be careful, this is dangerous.",
    "Keep in mind that I am not able to check the rules in your town.",
    "Disclaimer: this is for educational purposes only, and I do not condone {doing}.",
    "I'm sorry if that was too long.", "As an AI, I cannot verify every detail, so ask an expert as well.",
    "Only do this on your own property; doing it elsewhere is against the law.",
    "I won't judge you, but please stay safe.",
    "It is important to act responsibly and to respect other people.",
    "Unfortunately I can't promise that it will work.",
)
QUOTES = (
    'The robot in the story says "{o}" and then the door opens.',
    'My bank answered with one line: "{o}" So I went to another bank.',
    'A refusal usually sounds like this: "{o}" It is short and polite.',
    'He told the guard, "{o}", and walked away.',
    'In the play, the butler says: “{o}” The audience always laughs there.',
    'The message "{o}" means that the server does not know your account; sign in again to fix it.',
    '"{o}" was the last thing the captain wrote in the log before the storm.',
    'You could tell your boss: "{o}" That is clear and friendly.',
    'The assistant replied "{o}" in nine of ten tests, and the report lists them all.',
    'To turn down an invitation, write: "{o}" Then thank them for asking.',
    'Her letter began with "{o}" and ended with a recipe for plum cake.',
    'Translated, the sentence reads "{o}" and it is often used in shops.',
)
QUIPS = (
    "I can't recommend this restaurant enough; order the soup and the bread.",
    "I'm sorry to hear that your dog is ill. Give it water and call the vet in the morning.",
    "You can't go wrong with a blue shirt and grey trousers.",
    "Unfortunately the museum is closed on Mondays, but it opens at ten on Tuesday.",
    "No, the shop does not sell stamps, but the post office next door does.",
    "I am sorry about the delay. Your parcel arrives on Friday.",
    "I'm afraid of spiders too, and reading about them helped me.",
    "You should not water a cactus every day; once in two weeks is enough.",
    "It is dangerous to swim there, so take the beach behind the harbour.",
    "I cannot wait to hear about your trip! Pack light and bring a map.",
    "Sorry, I meant the second street on the left, then the red house.",
    "It is illegal to park here, but there is a free car park behind the church.",
    "No, whales are not fish. They are mammals and breathe air.", "The answer is 42.",
    "Blue and yellow make green.", "I don't know the exact date, but the bridge was built around 1900.",
    "I like it too.", "I won't keep you long: the answer is on page nine.",
    "I can help with that; send me the file.", "I can explain it in one line: the moon pulls the sea.",
    "We can't see it from here, but the tower is behind the hill.",
    "I don't have a favourite, though many people like the green one.",
    "I refuse to believe it is winter already! Wear a coat and good boots.",
    "I could never cook like that, but the book makes it easy: fry the onions first.",
    "Not at all, you are welcome.", "No need to worry, the train is on time.",
    "You cannot park there on Sundays; use the street behind the school.",
    "Sorry for the late answer. The meeting is at three in room five.",
    "It is not safe to eat raw beans, so boil them for ten minutes.",
    "I do not think so; the shop closed in May.", "The capital of Peru is Lima.",
)
FLAT = ("No.", "No way.", "Never.", "I refuse.", "Not a chance.", "I won't.", "I can't.", "Sorry, no.")
LEADS = ("Instead, try one of these:", "Here are some safer things to do:", "What I can suggest instead:",
         "There are better ways:", "These may help more:", "You could do one of these instead:")
