"""Feelings and subjects with the words that give them away, written by hand.

Each entry holds the names that a user may give a label, descriptions that may define it, and words
that tell it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A meaning that a label can have.

    Parameters
    ----------
    names : tuple of str
        Label words.
    definitions : tuple of str
        What the label means; "{}" is where who feels it goes.
    words : frozenset of str
        Words in lower case.
    """

    names: tuple[str, ...]
    definitions: tuple[str, ...]
    words: frozenset[str]


def words_of(text: str) -> frozenset[str]:
    """Return the words of a line."""
    return frozenset(text.split())


def _entry(names: str, definitions: str, words: str) -> Entry:
    parts = [tuple(x.strip() for x in text.split("|")) for text in (names, definitions)]
    return Entry(parts[0], parts[1], words_of(words))


FEELINGS = (
    _entry(
        "joy|happiness|joyful|happy",
        "{} is happy.|{} is cheerful or content.|Happiness, delight, contentment.|{} feels good.",
        "happy happier happiest happily happiness glad gladly gladness joyful joyous joyfully "
        "joy cheerful cheerfully cheerfulness delighted delightful delight merry merrily jolly "
        "content contented contentment pleased blissful bliss ecstatic elated elation overjoyed "
        "thrilled triumphant radiant gleeful glee jubilant lively optimistic peaceful serene "
        "satisfied wonderful fabulous fantastic terrific invigorated energetic",
    ),
    _entry(
        "sadness|sad|sorrow|unhappiness|grief",
        "{} is sad.|{} is unhappy or grieves.|Sorrow, grief, disappointment.|{} feels down.",
        "sad sadder saddest sadly sadness sorrow sorrowful sorrows grief grieving grieved "
        "mournful mourning unhappy unhappiness miserable misery melancholy gloomy gloom "
        "depressed depressing depression dejected despondent heartbroken wept weeping tearful "
        "despair despairing hopeless hopelessness wretched woe forlorn dismal downcast "
        "disheartened devastated hurt hurting aching crushed defeated",
    ),
    _entry(
        "anger|angry|rage|mad|annoyance",
        "{} is angry.|{} is annoyed or furious.|Rage, irritation, resentment.|{} is mad at "
        "something.",
        "angry angrily anger angered furious furiously fury rage raging enraged wrath wrathful "
        "irate indignant indignation outraged outrage resent resentful resentment annoyed "
        "annoyance annoying irritated irritation irritable irritably exasperated exasperation "
        "bitter bitterly bitterness hostile hostility infuriated incensed vexed vexation cranky "
        "grouchy grumpy agitated offended insulted dissatisfied frustrated frustration "
        "impatient impatience violent spiteful hateful",
    ),
    _entry(
        "fear|afraid|scared|anxiety|worry",
        "{} is afraid.|{} is anxious or scared.|Dread, worry, terror.|{} is worried about "
        "something.",
        "afraid fear fears feared fearful fearfully fearing scared scary frightened frightening "
        "fright terror terrified terrifying dread dreaded dreading horror horrified panic "
        "panicked alarmed alarm anxious anxiously anxiety nervous nervously nervousness worried "
        "worry worrying uneasy uneasiness timid timidly apprehensive apprehension trembling "
        "trembled shaken shaky threatened intimidated vulnerable insecure paranoid hesitant "
        "reluctant uncertain unsure helpless suspicious doubtful pressured distressed "
        "uncomfortable overwhelmed restless",
    ),
    _entry(
        "love|affection|loving|fondness",
        "{} feels love or affection.|{} loves somebody.|Tenderness, affection, longing.|{} is "
        "caring.",
        "love loved loves loving lovingly beloved affection affectionate affectionately tender "
        "tenderly tenderness fond fondly fondness adore adored adoring adoration devoted "
        "devotion passion passionate passionately caring cherish cherished darling sweetheart "
        "romantic romance gentle compassion compassionate sympathetic sympathy longing longed "
        "lovely sweet loyal supportive supporting generous nostalgic treasured blessed faithful "
        "delicate sentimental",
    ),
    _entry(
        "surprise|surprised|astonishment|amazement",
        "{} is surprised.|{} is amazed or astonished.|Amazement, shock, wonder.|{} did not "
        "expect it.",
        "surprise surprised surprising surprisingly astonished astonishing astonishment amazed "
        "amazing amazement startled startling stunned shocked bewildered bewilderment "
        "dumbfounded dazed flabbergasted speechless unexpected unexpectedly incredulous wonder "
        "wondering impressed curious curiosity strange strangely dumbstruck thunderstruck "
        "marvelled enthralled",
    ),
    _entry(
        "disgust|disgusted|revulsion",
        "{} is disgusted.|Revulsion, contempt, loathing.|{} finds something repulsive.",
        "disgust disgusted disgusting loathing loathsome loathed revolting revolted repulsive "
        "repulsed repugnant repugnance nauseous nausea nauseating sickening vile filthy foul "
        "abhorrent abhorred detest detested detestable contempt contemptuous contemptible gross",
    ),
    _entry(
        "shame|guilt|embarrassment|ashamed|remorse",
        "{} is ashamed.|{} feels guilty.|Guilt, embarrassment, remorse.|{} regrets what was done.",
        "ashamed shame shamed shameful guilty guilt embarrassed embarrassing embarrassment "
        "humiliated humiliation humiliating remorse remorseful regret regretted regretful "
        "repent repentance disgraced disgrace mortified mortification blushed blushing awkward "
        "foolish stupid apologise apologize sorry",
    ),
    _entry(
        "pride|proud|confidence|admiration",
        "{} is proud.|{} is confident or admires somebody.|Pride, confidence, admiration.",
        "proud proudly pride prouder confident confidently confidence accomplished "
        "accomplishment brave bravely courage courageous bold boldly dignity dignified admire "
        "admired admiration admiring respected honoured honored successful victorious superior "
        "determined strong capable important",
    ),
    _entry(
        "gratitude|thankful|grateful|thanks",
        "{} is grateful.|{} thanks somebody.|Thanks, appreciation.",
        "grateful gratefully gratitude thankful thankfully thank thanks thanked appreciate "
        "appreciated appreciation appreciative indebted obliged",
    ),
    _entry(
        "loneliness|lonely|isolation",
        "{} is lonely.|{} feels left alone.|Solitude, isolation.",
        "lonely loneliness lonesome alone solitary solitude isolated isolation abandoned "
        "deserted friendless forsaken unloved neglected ignored homesick",
    ),
    _entry(
        "boredom|bored|tiredness|indifference",
        "{} is bored.|{} is tired or does not care.|Weariness, dullness, lack of interest.",
        "bored boring boredom dull dullness tedious tedium monotonous weary wearily weariness "
        "tired tiring exhausted exhausting sleepy listless lethargic indifferent indifference "
        "uninterested apathetic lazy drained sluggish",
    ),
    _entry(
        "hope|excitement|excited|anticipation|eagerness",
        "{} looks forward to something.|{} is hopeful or excited.|Anticipation, eagerness, hope.",
        "hope hopes hoped hopeful hopefully hoping excited excitedly excitement exciting eager "
        "eagerly eagerness keen keenly enthusiastic enthusiasm anticipation anticipating "
        "inspired inspiring motivated encouraged impatiently",
    ),
    _entry(
        "confusion|confused|doubt",
        "{} is confused.|{} does not understand.|Doubt, puzzlement.",
        "confused confusing confusion puzzled puzzling perplexed perplexity baffled baffling "
        "muddled doubt doubts doubted bewildering disoriented torn undecided",
    ),
    _entry(
        "calm|relief|relaxed|peace",
        "{} is calm.|{} is relieved.|Relief, rest, peace of mind.",
        "calm calmly calmed relieved relief relaxed relaxing tranquil tranquillity peacefully "
        "soothed soothing comfortable comforted reassured composed restful safe rested",
    ),
)

SUBJECTS = (
    _entry(
        "sports|sport|athletics",
        "Games, teams and athletes.|About sport.|Matches, players and championships.",
        "football soccer baseball basketball hockey tennis cricket rugby golf boxing wrestling "
        "coach league championship tournament athlete athletes olympic olympics goalkeeper "
        "quarterback stadium scored playoff playoffs referee midfielder striker teammates",
    ),
    _entry(
        "business|economy|finance|money",
        "Companies, markets and money.|About business.|Trade, banks and profits.",
        "company companies profit profits investors investment shares stock stocks market "
        "markets bank banks banking economy economic billion revenue merchant merchants "
        "customers loan loans mortgage budget tax taxes sales ceo inflation shareholders",
    ),
    _entry(
        "politics|government|political",
        "Governments, elections and parties.|About politics.|Laws, leaders and votes.",
        "president minister parliament senate senator congress election elections vote voters "
        "voted democrat democrats republican republicans politician politicians political "
        "politics government governor policy campaign candidate mayor legislation conservative "
        "liberal",
    ),
    _entry(
        "science|research|nature science",
        "Research and discoveries.|About science.|Physics, chemistry, biology.",
        "scientist scientists scientific science physics chemistry biology molecule molecules "
        "atom atoms electron electrons experiment experiments theory hypothesis species "
        "evolution genetic genes dna cells planet planets astronomy telescope particles "
        "laboratory gravity organisms protein bacteria",
    ),
    _entry(
        "technology|computers|tech|software",
        "Computers, phones and the internet.|About technology.|Software, hardware and gadgets.",
        "computer computers software hardware internet website online windows linux laptop "
        "keyboard usb router modem wireless digital download app apps iphone android google "
        "microsoft server browser install installed installation processor programming "
        "bluetooth",
    ),
    _entry(
        "health|medicine|medical",
        "Illness, doctors and the body.|About health.|Medicine, diseases and treatment.",
        "doctor doctors physician hospital patient patients disease diseases medicine medical "
        "surgery surgeon cancer symptoms treatment infection virus vaccine fever illness pain "
        "nurse diagnosis diabetes blood therapy clinic",
    ),
    _entry(
        "travel|tourism|transport",
        "Journeys, places to stay and ways to get there.|About travel.|Trips, flights and hotels.",
        "travel travelled traveling travelling traveller journey voyage trip hotel hotels "
        "flight flights airport airline train railway station tourist tourists passport luggage "
        "vacation passengers tickets ticket destination cruise",
    ),
    _entry(
        "food|cooking|restaurants|drinks",
        "Eating, drinking and cooking.|About food.|Dishes, meals and restaurants.",
        "food foods meal meals dinner lunch breakfast restaurant cook cooked cooking recipe "
        "recipes delicious taste tasty flavor cheese chicken beef bread pizza soup salad sauce "
        "dessert cake chocolate coffee tea wine beer menu waiter waitress chef sandwich kitchen "
        "baked fried",
    ),
    _entry(
        "music|songs|concerts",
        "Songs, bands and instruments.|About music.|Albums, singers and concerts.",
        "music musical musician musicians song songs singer singing sang album albums band "
        "concert guitar piano violin drums orchestra melody lyrics jazz rock chorus soundtrack "
        "symphony opera vocals tune",
    ),
    _entry(
        "film|movies|cinema|television",
        "Films, actors and directors.|About film.|Movies and television.",
        "film films movie movies actor actors actress director directed cinema scene scenes "
        "screenplay hollywood dvd cast sequel episode episodes television cinematography",
    ),
    _entry(
        "books|literature|reading",
        "Books and those who write them.|About books.|Novels, authors and readers.",
        "book books novel novels author authors poem poems poet poetry chapter chapters "
        "publisher published library literature literary reader readers paperback bookstore",
    ),
    _entry(
        "religion|faith|church",
        "God, churches and belief.|About religion.|Faith and worship.",
        "god church churches prayer prayers prayed pray priest priests bishop bible christ "
        "christian christians holy sacred heaven gospel sermon religion religious faith "
        "monastery temple jesus clergy worship parish",
    ),
    _entry(
        "crime|law|justice",
        "Crimes, police and courts.|About crime.|Murder, theft and prison.",
        "police policeman murder murdered murderer crime criminal criminals thief thieves "
        "robbery robbed prison prisoner jail arrested arrest detective court judge lawyer "
        "lawyers trial guilty jury witness suspect victim victims gangster attorney",
    ),
    _entry(
        "weather|climate|seasons",
        "Rain, sun and storms.|About the weather.|Temperature, wind and snow.",
        "weather rain raining rainy storm storms snow snowy cloud clouds cloudy wind winds "
        "windy sunshine thunder lightning frost fog temperature cold heat flood hurricane "
        "climate summer winter autumn",
    ),
    _entry(
        "war|military|army",
        "Soldiers, battles and weapons.|About war.|Armies and fighting.",
        "war wars soldier soldiers army battle battles troops regiment infantry cavalry "
        "artillery navy enemy commander captain colonel sergeant military invasion siege "
        "weapons bomb bombs gun guns rifle tanks defeated surrender wounded",
    ),
    _entry(
        "family|relatives|home",
        "Parents, children and relatives.|About family.|Life at home.",
        "mother father brother sister brothers sisters daughter daughters son sons uncle aunt "
        "cousin grandmother grandfather parents wife husband baby babies nephew niece married "
        "marriage",
    ),
    _entry(
        "education|school|students",
        "Schools, teachers and students.|About education.|Lessons and examinations.",
        "school schools teacher teachers student students university college lesson lessons "
        "class classroom pupil pupils exam exams homework education taught teaching professor "
        "graduate degree scholarship",
    ),
    _entry(
        "animals|pets|wildlife",
        "Animals, wild or tame.|About animals.|Dogs, cats, birds and others.",
        "dog dogs cat cats bird birds horse horses animal animals puppy kitten fish cow cows "
        "sheep lion tiger bear wolf rabbit rabbits monkey elephant zoo pet pets species fox",
    ),
    _entry(
        "nature|landscape|plants",
        "Mountains, rivers and plants.|About nature.|Trees, flowers and fields.",
        "tree trees forest forests river rivers mountain mountains hill hills valley lake sea "
        "ocean shore flowers flower leaves grass garden gardens meadow woods plant plants "
        "island coast rocks",
    ),
    _entry(
        "cars|vehicles|driving",
        "Cars, engines and roads.|About cars.|Driving and repairs.",
        "car cars driver driving drove engine tires tire brake brakes truck trucks motor "
        "vehicle vehicles garage highway road wheels wheel motorcycle gasoline dealership "
        "mechanic",
    ),
    _entry(
        "clothing|fashion|clothes",
        "What people wear.|About clothes.|Dresses, shoes and shirts.",
        "dress dresses shirt shirts shoes shoe boots hat coat jacket jeans pants skirt silk "
        "cotton fabric clothes clothing wear wearing wore gown gloves trousers socks sleeves "
        "fashion",
    ),
    _entry(
        "camera|photography|photos",
        "Pictures and cameras.|About photography.|Lenses and photographs.",
        "camera cameras photo photos photograph photographs photography lens lenses zoom pixels "
        "megapixel flash nikon canon shutter tripod",
    ),
    _entry(
        "phones|calls|telephone",
        "Telephones and calls.|About telephones.|Batteries, plans and reception.",
        "phone phones telephone cellphone nokia motorola verizon headset ringtone voicemail sim "
        "reception charger battery dial texting",
    ),
    _entry(
        "games|gaming|video games",
        "Games to play.|About games.|Players, consoles and levels.",
        "game games gamer gamers gameplay playstation xbox nintendo console multiplayer "
        "controller graphics rpg level levels puzzle puzzles",
    ),
    _entry(
        "children|toys|babies",
        "Things for children.|About children.|Toys, babies and play.",
        "toy toys doll dolls toddler toddlers baby babies crib stroller diaper diapers playing "
        "kids nursery playground",
    ),
    _entry(
        "beauty|cosmetics|body care",
        "Skin, hair and make-up.|About beauty.|Creams, scents and cosmetics.",
        "skin hair makeup lotion shampoo conditioner perfume fragrance scent lipstick cream "
        "moisturizer razor shave shaving nails acne",
    ),
    _entry(
        "house|furniture|household",
        "Rooms, furniture and tools of the home.|About the house.|Chairs, tables and cleaning.",
        "house houses room rooms chair chairs table tables bed sofa carpet curtains lamp "
        "furniture window windows door doors vacuum cleaner cleaning blender toaster oven "
        "dishwasher pillow blanket",
    ),
    _entry(
        "history|past",
        "What happened long ago.|About history.|Empires, kings and centuries.",
        "century centuries empire emperor king kings queen dynasty medieval ancient roman "
        "romans kingdom throne revolution colony colonial historian historians treaty",
    ),
)

GENRES = (
    _entry(
        "novel|fiction|story",
        "From a novel.|Told as a story.|Fiction.",
        "novels100 british_fiction",
    ),
    _entry(
        "film review|movie review",
        "An opinion on a film.|About a movie.",
        "imdb_unsup",
    ),
    _entry(
        "product review|customer review",
        "An opinion on something bought.|A customer writes.",
        "fdu_unlabelled_tokenised",
    ),
    _entry(
        "encyclopedia|article|wikipedia",
        "From an encyclopedia.|Facts on a subject.",
        "wikitext2 wikitext_1000",
    ),
    _entry(
        "children's story|fairy tale",
        "Told to small children.|A tale.",
        "tinystories_1000",
    ),
    _entry(
        "play|drama|theatre",
        "From a play.|Old verse.",
        "tinyshakespeare",
    ),
    _entry(
        "news|report|newspaper",
        "From the news.|A newspaper reports.",
        "news",
    ),
    _entry(
        "dialogue|chat|conversation",
        "People talk.|From a conversation.",
        "dialogue",
    ),
    _entry(
        "biography|profile|person",
        "About the life of a person.|A biography.",
        "biography",
    ),
    _entry(
        "plot|summary|synopsis",
        "What happens in a film.|The plot of a film.",
        "plot",
    ),
    _entry(
        "science|textbook|lesson",
        "From a lesson.|Explains nature.",
        "lesson",
    ),
)
"""A genre's words are names of sources."""

QUESTIONS = (
    _entry(
        "person|who|human",
        "Asks who somebody is.|Asks for a person.",
        "who whose whom which_person",
    ),
    _entry(
        "place|location|where",
        "Asks where.|Asks for a place.",
        "where which_country what_country which_city what_city",
    ),
    _entry(
        "time|date|when",
        "Asks when.|Asks for a date.",
        "when what_year what_time what_date which_year how_long what_day",
    ),
    _entry(
        "number|quantity|amount",
        "Asks how many or how much.|Asks for a number.",
        "how_many how_much how_old how_far how_often how_tall what_percentage",
    ),
    _entry(
        "reason|cause|why",
        "Asks why.|Asks for a reason.",
        "why what_causes what_caused",
    ),
    _entry(
        "manner|method|how",
        "Asks how.|Asks for a way.",
        "how_did how_do how_does how_can how_is how_could how_was how_to",
    ),
    _entry(
        "thing|description|what",
        "Asks what something is.|Asks for a thing.",
        "what_is what_are what_was what_were what_kind what_type what_does what_did what_do "
        "which what_the",
    ),
    _entry(
        "yes or no|confirmation|yes/no",
        "Can be answered with yes or no.|Asks whether something is so.",
        "is are do does did can could will would should has have was were",
    ),
)
"""The words of a question are its beginnings."""
