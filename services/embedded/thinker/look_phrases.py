"""Phrases that ask for a look of `looks.LOOKS`."""

from __future__ import annotations

_PHRASES: dict[str, str] = {
    "golden hour": (
        "golden hour; golden-hour; goldenhour; magic hour; golden light; golden evening; late afternoon sun; late "
        "afternoon; evening sun; evening light; low evening sun; golden glow; sun-kissed; sunkissed"
    ),
    "sunset": "sunset; sundown; setting sun; at dusk with a red sky; sun is setting; sun was setting; evening sky",
    "sunrise": "sunrise; dawn; daybreak; early morning sun; early morning light; morning light; morning sun; first light",
    "blue hour": "blue hour; blue-hour; dusk; twilight; nightfall; after sunset; just after sunset",
    "night": (
        "night; night-time; nighttime; at night; midnight; moonlight; moonlit; moon light; by moonlight; day for "
        "night; day-for-night; nocturnal; nightscape; starlight"
    ),
    "overcast": "overcast; overcast day; cloudy; cloudy day; grey day; dull day; gloomy day; grey sky; flat light; bleak",
    "misty morning": "misty morning; foggy morning; hazy morning; overcast morning; morning mist; misty; mist",
    "fog": "fog; foggy; thick fog; dense fog; heavy fog; in the fog; fogbound; smoky; hazy day",
    "sunny": (
        "sunny; sunny day; bright sunny day; bright sunny; bright day; sunshine; midday sun; noon; bright "
        "sunlight; sunlight; sunlit; bright daylight; clear day; midday"
    ),
    "winter": (
        "winter; wintry; winter day; winter morning; snowy; snow; icy; frosty; frozen; arctic; freezing; cold "
        "winter; cold winter day; cold day; nordic; scandinavian winter"
    ),
    "autumn": "autumn; autumnal; fall colours; fall season; fall day; fall foliage; october; november light; harvest",
    "spring": "spring; springtime; fresh spring; spring morning; fresh; april; fresh and airy; spring-like",
    "summer": "summer; summery; summer day; summer afternoon; summertime; july; summer holiday; summer vacation",
    "desert": (
        "desert; hot desert; scorching; summer heat; heatwave; heat wave; hot; sahara; mad max; wild west; "
        "western; arid; dusty; mexico; hot summer; hot summer day; blazing heat"
    ),
    "1970s print": (
        "1970s; 70s; seventies; 1970's; 70's; faded 1970s print; faded 70s print; faded print; seventies print; "
        "1960s; 60s; sixties; 1970s print; faded photograph; faded photo; kodachrome; old film; old photo album; "
        "faded snapshot"
    ),
    "old postcard": (
        "old postcard; postcard; vintage postcard; old photograph; old photo; old picture; aged; aged photo; "
        "1950s; 50s; fifties; 1940s; grandmother's album; found in an attic; weathered; old print; antique "
        "postcard"
    ),
    "vintage": (
        "vintage; retro; retro film; analog; analogue; film look; film photo; nostalgic; nostalgia; old film "
        "look; instagram; hipster; 35mm film; kodak portra; portra; kodak; vintage film; old-school; throwback"
    ),
    "1980s": "1980s; 80s; eighties; vaporwave; synthwave; retrowave; outrun; 80's; vhs; miami vice",
    "disposable camera": (
        "disposable camera; disposable; 1990s disposable camera; 90s disposable camera; 1990s; 90s; nineties; "
        "90's; 1990's; 2000s; y2k; snapshot camera; lomo; lomography; point and shoot; cheap camera; toy camera; "
        "holga; flash photo"
    ),
    "polaroid": "polaroid; instant film; instant photo; instant camera; instax; polaroid photo",
    "film noir": (
        "film noir; noir; black-and-white film noir; monochrome film noir; detective film; hitchcock; black and "
        "white movie; monochrome movie; monochrome film; dramatic monochrome; gritty monochrome; silent film; "
        "moody monochrome; high contrast monochrome; high-contrast monochrome; old monochrome movie; 1940s movie"
    ),
    "high-key": ("high-key; high key; bright and airy; light and airy; airy; bright white; overexposed look; heavenly; luminous"),
    "low-key": (
        "low-key; low key; chiaroscuro; rembrandt; caravaggio; dark and mysterious; mysterious; in the shadows; "
        "dark academia; dimly lit; rembrandt lighting"
    ),
    "moody": (
        "moody; dark and moody; brooding; melancholic; melancholy; sombre; somber; gloomy; sad; lonely; nordic "
        "noir; emo; bleak mood; dark mood; gritty; grungy; grunge; tense; sinister mood"
    ),
    "dramatic": "dramatic; epic; intense; dramatic lighting; powerful; theatrical; dramatic light; majestic",
    "cinematic": (
        "cinematic; teal and orange; teal-and-orange; teal orange; orange and teal; movie still; film still; "
        "hollywood; blockbuster; movie look; cinema; cinematic teal and orange; movie scene; action movie; "
        "movie-like; netflix"
    ),
    "cyberpunk": (
        "cyberpunk; neon; neon lights; neon-lit; neon city; blade runner; blade-runner; neon noir; tokyo at night; nightclub"
    ),
    "dreamy": (
        "dreamy; ethereal; dreamlike; dream; dream-like; soft focus; hazy dream; soft and dreamy; angelic; like a "
        "dream; delicate; surreal; otherworldly"
    ),
    "pastel": (
        "pastel; pastels; pastel colours; wes anderson; candy; candy coloured; cotton candy; kawaii; soft colours; baby colours"
    ),
    "matte": (
        "matte; editorial; matte editorial; magazine; fashion editorial; matte finish; matte look; magazine "
        "editorial; vsco; fashion magazine"
    ),
    "punchy": (
        "hdr; punchy; pop; make it pop; punch; hyper-real; hyperreal; high dynamic range; poppy; eye-catching; "
        "bold; lively; advertising"
    ),
    "product": (
        "product shot; product photo; packshot; pack shot; catalogue; catalog; e-commerce; ecommerce; studio "
        "product; product photography; studio shot; white background; on white; amazon listing; online shop; "
        "online store"
    ),
    "portrait": (
        "portrait look; portrait style; portrait photo look; bokeh; shallow depth of field; depth of field; portrait mode; "
        "wide aperture; blurred background; out of focus background; creamy background"
    ),
    "candlelight": (
        "candlelight; candle light; candlelit; candle-lit; by candlelight; firelight; fireplace; campfire; by the "
        "fire; lantern; lamplight; tungsten; fireside; firelit; torchlight"
    ),
    "cosy": (
        "cosy; cozy; hygge; homely; snug; christmas; cosy evening; comfy; intimate; inviting; homey; coffee shop; café; cafe"
    ),
    "clinical": (
        "hospital; clinical; sterile; laboratory; surgical; fluorescent; fluorescent light; office lighting; "
        "medical; hospital corridor; lab"
    ),
    "underwater": (
        "underwater; under water; under the sea; deep sea; ocean floor; undersea; submerged; aquatic; scuba; aquarium"
    ),
    "sepia": (
        "antique; sepia antique; antique sepia; victorian; daguerreotype; 19th century; 1800s; 1900s; 1920s; "
        "1910s; 1890s; wild west photo; tintype; civil war; albumen; old sepia; turn of the century; edwardian; "
        "sepia photograph; sepia photo; 1930s; great-grandmother"
    ),
    "bleach bypass": "bleach bypass; bleach-bypass; saving private ryan; war film; war movie; silver retention; gritty war",
    "cross-processed": (
        "cross-processed; cross processed; cross processing; cross process; x-pro; xpro; cross-process; lomo slide"
    ),
    "spooky": (
        "spooky; horror; haunted; scary; eerie; creepy; halloween; ghostly; gothic; horror movie; horror film; "
        "nightmare; sinister; zombie; apocalyptic; post-apocalyptic; vampire; macabre"
    ),
    "romantic": ("romantic; romance; wedding; valentine; valentine's; love story; valentines; wedding album; bridal; honeymoon"),
    "minimalist": (
        "minimalist; minimal; minimalistic; clean; clean and minimal; simple and clean; scandinavian; zen; understated"
    ),
    "rainy": "rainy; rain; rainy day; drizzle; wet day; wet; raining; monsoon; rainy afternoon; rainy evening",
    "stormy": (
        "stormy; storm; thunderstorm; before the storm; tempest; thunder; storm is coming; ominous; foreboding; "
        "threatening; impending storm"
    ),
    "tropical": (
        "tropical; caribbean; beach holiday; hawaii; paradise; island; tropics; bali; exotic; jungle; tropical "
        "island; rainforest; rio"
    ),
    "comic": (
        "comic; comic book; pop art; pop-art; retro comic; cartoon; warhol; roy lichtenstein; lichtenstein; "
        "graphic novel; screen print; poster art; manga; comic-book; retro poster; screen-print; propaganda "
        "poster"
    ),
    "sci-fi": (
        "sci-fi; scifi; science fiction; futuristic; spaceship; space age; cold sci-fi; tron; dystopian; steel; "
        "cold and futuristic; industrial"
    ),
    "matrix": "the matrix; matrix; night vision; toxic; radioactive; hacker; acid green; absinthe",
    "fairy tale": (
        "fairy tale; fairytale; fairy-tale; magical; enchanted; fantasy; whimsical; storybook; wonderland; disney; mystical"
    ),
    "faded": "faded; washed out; washed-out; bleached; sun-bleached; low contrast; lo-fi; lofi; sun-faded; dull; pale",
    "documentary": (
        "reportage; photojournalism; documentary; street photography; monochrome documentary; newspaper; press "
        "photo; newspaper photo; ansel adams; monochrome photo; magnum photographer; 1950s monochrome"
    ),
    "warm": "warm; warm tones; warm light; toasty; warm colours; warm mood",
    "cool": ("cool tones; cool light; cold; chilly; cool colours; cold light; cold tones; cool; cold mood; icy blue; steely"),
    "vivid": (
        "vivid colours; rich colours; saturated colours; bright colours; strong colours; vibrant colours; vivid; "
        "vibrant; colourful; rich; intense colours; lush"
    ),
    "muted": (
        "muted colours; subdued; muted tones; muted; earthy; earth tones; neutral tones; neutral colours; subdued "
        "colours; natural tones"
    ),
    "brighter": "well lit; well-lit; bright",
    "darker": "dark; underexposed",
    "contrasty": "high contrast; high-contrast; strong contrast; harsh light; harsh; hard light; contrasty",
    "flat": "flat contrast; soft contrast; soft light; diffuse light; low-contrast; soft lighting; diffused light",
}


def look_phrases() -> dict[str, str]:
    """Every phrase, in lower case, and the look that it names."""
    found: dict[str, str] = {}
    for look, text in _PHRASES.items():
        for phrase in text.split(";"):
            found.setdefault(phrase.strip(), look)
    return found
