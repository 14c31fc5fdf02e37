"""A large list of ways to say things, for `nav_varied`: a policy that has heard much understands more that it has not.

It was written by somebody who was told what the robot can do, and saw no other list. Whatever has a word that
`nav_phrasings` keeps for the evaluation was taken out, and every phrase of `nav_spontaneous`.
"""

from __future__ import annotations


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(";"))


#: Behind these and `FACE` stands the object.
GO = _phrases("""
    near; join; meet; pursue; intercept; seek; rejoin; touch; tag; rush; greet; chase; search out; chase down; hunt
    down; go see; go meet; go join; go find; go touch; go tag; go greet; go and meet; go and join; go and see; go and
    touch; drive over and meet; drive up and touch; roll up and greet; head over and join; come and join; come and meet;
    roll along until you meet; drive on till you touch; head towards; head toward; head off to; move up to; move
    towards; move toward; roll to; run over to; zoom to; zoom over to; race to; race over to; dash to; dash over to;
    hurry over to; rush over to; scurry over to; scuttle over to; trundle to; trundle over to; wheel over to; motor to;
    motor over to; cruise to; cruise over to; steer for; steer yourself to; take yourself over to; get over to; get
    yourself to; march to; march up to; stroll over to; wander over to; amble over to; mosey over to; nip over to; whizz
    over to; zip over to; vroom over to; toddle over to; creep up to; inch up to; ease up to; glide to; glide over to;
    advance to; close in on; close with; home in on; relocate to; drive yourself to; set course for; set a course for;
    plot a course to; set out for; make tracks for; hop over to; hotfoot it to; hightail it to; leg it to; dart over to;
    shoot over to; go all the way to; drive all the way to; drive directly to; go across to; go toward; go towards;
    drive across to; drive toward; drive towards; edge over to; sidle up to; cosy up to; cozy up to; find your way to;
    work your way to; wend your way to; thread your way to; pick your way over to; betake yourself to; journey to; cross
    to; cross over to; cross the room to; cross the floor to; report to; rendezvous with; link up with; meet up with;
    catch up with; join up with; dock with; reposition to; follow a path to; shorten the distance to; close the distance
    to; close the gap to; reduce your distance to; go say hello to; go and say hi to; drive next to; move next to; park
    next to; get next to; roll up next to; take up position next to; place yourself next to; come right next to; drive
    until you are next to; go beside; drive beside; pull up beside; draw up beside; roll up beside; position yourself
    beside; go and stand beside; come and sit beside; end up beside; park yourself beside; go by the side of; park by;
    drop by; go and stand by; station yourself by; pop by; drive near; move near; get near; come near; draw near; park
    near; position yourself near; roll up near; go close to; get close to; drive up close to; move in close to; pull in
    close to; get as close as you can to; drive alongside; pull alongside; come alongside; draw up alongside; pull up
    alongside; park alongside; drive up against; park against; snuggle up against; nestle up against; roll right up
    against; go in front of; drive in front of; park in front of; pull up in front of; go and stand in front of; take up
    position in front of; arrive at; show up at; report in at; dock at; be at; park up at; take your place at; move into
    position at; drive adjacent to; move adjacent to; relocate adjacent to; move to a position beside; go to the side
    of; go to the spot beside; drive to a place by; move within arm's length of; get within touching distance of
""")
FACE = _phrases("""
    face towards; face toward; face directly; face in the direction of; look toward; look directly at; look right at;
    look across at; take a look at; have a gander at; take a gander at; have a peek at; take a peek at; peek at; peep
    at; stare straight at; glance over at; glance towards; glare at; squint at; peer at; gawk at; gawp at; eye; eyeball;
    view; visually acquire; visually target; bring into view; turn in the direction of; turn around to face; turn round
    to face; turn and face; turn and look at; turn around and look at; turn in place to face; turn your head towards;
    turn your front towards; turn your nose to; turn your nose toward; turn your eyes to; turn your camera to; turn your
    attention to; turn yourself to; turn yourself towards; turn yourself round to face; turn until you see; turn until
    you face; turn until you are facing; turn until you're looking at; turn so that you face; turn so you can see;
    rotate to; rotate toward; rotate until you face; rotate in place to face; rotate on the spot towards; rotate so you
    are facing; rotate yourself toward; spin to face; spin towards; spin around to face; spin on the spot to face; pivot
    towards; pivot toward; pivot on the spot to face; swivel to; swivel to face; swivel toward; swivel round to; swivel
    your head toward; twist to face; twist towards; twirl round to face; wheel round to face; whirl around to face; yaw
    to; yaw to face; yaw towards; yaw until you face; slew to; slew towards; slew round to; slew your camera to; align
    your heading with; align your front with; align your camera with; adjust your heading to face; change your heading
    to face; point to; point towards; point toward; point in the direction of; point yourself towards; point your camera
    at; point your face at; point your eyes at; set your sights on; lay your eyes on; set eyes on; fix your eyes on;
    train your eyes on; train your camera on; train your sights on; focus on; focus your camera on; direct your eyes to;
    direct your front toward; cast your eyes on; cast a glance at; keep an eye on; keep watch on; keep looking at; rest
    your eyes on; feast your eyes on; lock your eyes on; lock your camera on; lock eyes with; make eye contact with; get
    a look at; get your eyes on; centre your view on; center your view on; centre your camera on; center your camera on;
    bring your front round to; bring your nose around to; bring your camera to bear on; bring your sensors to bear on;
    square up to; square yourself to; show your front to; be facing; end up facing; stand facing
""")
STOP = _phrases("""
    stop here; stop now; stop right here; stop dead; stop driving; stop rolling; stop in place; stop on the spot; stop
    your motors; stop your wheels; stop everything; stop all motion; stop all movement; stop in your tracks; stop at
    once; stop completely; just stop; stop and stay there; roll to a stop; roll to a halt; draw to a halt; bring
    yourself to a halt; bring yourself to a stop; halt here; halt right there; halt where you are; halt all motion; halt
    your motion; call a halt; brake now; brake hard; brake to a stop; slam on the brakes; put the brakes on; put on the
    brakes; apply the brakes; apply your brakes; pull the handbrake; engage the brakes; lock your wheels; stay; stay
    here; stay still; stay right where you are; stay at your current position; stay on the spot; stay stationary; stay
    motionless; stay parked; stand fast; stand where you are; stand in place; stand stock-still; stand perfectly still;
    stand by; hold; hold it; hold position; hold your position; hold your ground; hold steady; hold fast; hold there;
    hold here; keep still; keep perfectly still; keep your wheels still; remain still; remain here; remain stationary;
    remain in place; remain in position; remain motionless; remain at rest; maintain position; maintain your position;
    maintain your current position; rest here; rest in place; sit still; sit tight; sit there; park; park here; park
    yourself here; park it; park it right there; park where you are; hang tight; plant yourself there; anchor yourself;
    anchor yourself here; pull up right there; cease moving; cease movement; cease motion; cease all motion; cease
    driving; refrain from moving; avoid moving; quit rolling; cut the motors; cut the engine; cut the throttle; kill the
    motors; kill the engine; shut off the motors; switch off your motors; turn off your motors; set your velocity to
    zero; set your speed to zero; suspend all movement; suspend motion; terminate motion; abort motion; end your
    movement; discontinue movement; arrest your motion; make no movement; be still; be motionless; be a statue; play
    statue; pretend to be a statue; idle; idle here; move no further; move no more; go no further; don't budge; don't go
    anywhere; don't go any further; don't drive any further; whoa there; all stop; full stop; that's far enough; no more
    moving; not another inch
""")
BALL = _phrases("""
    bouncy ball; bouncing ball; toy ball; plastic ball; inflatable ball; foam ball; leather ball; wooden ball; glass
    ball; playground ball; play ball; child's ball; kid's ball; soccer ball; basketball; volleyball; handball;
    dodgeball; kickball; table tennis ball; ping-pong ball; golf ball; cricket ball; baseball; softball; hockey ball;
    croquet ball; billiard ball; snooker ball; pool ball; juggling ball; exercise ball; gym ball; yoga ball; fitness
    ball; medicine ball; stress ball; round toy; roundish thing; spherical object; spherical shape; spherical body;
    spherical toy; ball-shaped thing; ball-shaped object; ball-like object; ball thing; toy sphere; smooth sphere; solid
    sphere; perfect sphere
""")
BOX = _phrases("""
    cuboid; storage box; wooden box; plastic box; metal box; paper box; packing case; packing box; toy box; shoebox;
    hatbox; toolbox; lockbox; strongbox; trunk; gift box; shipping box; delivery box; moving box; storage container;
    storage cube; square box; building block; toy block; toy cube; toy brick; brick; wooden cube; plastic cube;
    cardboard cube; boxy object; boxy shape; box-shaped object; box-shaped thing; box-like thing; cube-shaped thing;
    cuboid object; rectangular box; rectangular block; rectangular object; rectangular prism; oblong box; six-sided
    object; square-sided object; box thing
""")
CONE = _phrases("""
    road cone; street cone; highway cone; motorway cone; roadworks cone; roadwork cone; construction cone; hazard cone;
    warning cone; caution cone; parking cone; boundary cone; marker cone; training cone; sports cone; soccer cone; gym
    cone; agility cone; course cone; toy cone; plastic cone; rubber cone; foam cone; paper cone; cardboard cone; wooden
    cone; pointy hat; wizard's hat; pointed cone; pointy cone; tapering cone; circular cone; solid cone; upright cone;
    pointed marker; conical object; conical shape; conical marker; conical body; conical solid; conical toy; cone-shaped
    thing; cone-shaped marker; cone-like object; cone-like thing; cone marker; cone thing; tapered object; tapering
    object; funnel-shaped object
""")
OBJECTS = _phrases("""
    this {color} {noun}; our {color} {noun}; my {color} {noun}; the {noun} painted {color}; the {color}-coloured {noun};
    the {color} colored {noun}; the {color}-painted {noun}; the {noun} coloured {color}; the {noun} colored {color}; the
    {noun} whose colour is {color}; the {noun} whose color is {color}; the {noun} of {color} colour; the {noun} with the
    {color} color; the {noun} with the {color} surface; the {noun} with {color} paint on it; the {noun} that has been
    painted {color}; the {noun} that appears {color}; whichever {noun} is {color}; the {color} {noun} over there; the
    {color} {noun} in the room; the {color} {noun} in here; the {color} {noun} on the floor; the {noun} that is {color}
    in colour; the {noun} that is {color} in color; that {noun} painted {color}; that {noun} in {color}
""")
#: Around a whole instruction.
TURNS = _phrases("""
    {} please; kindly {}; do please {}; simply {}; now, {}; ok, {}; alright, {}; all right, {}; right, {}; so, {}; hi
    there, {}; hello, {}; hello robot, {}; oi, {}; yo, {}; listen up, {}; robot: {}; ok robot, {}; dear robot, {};
    little robot, {}; attention, robot: {}; excuse me, {}; will you {}; will you please {}; be a dear and {}; be a good
    robot and {}; be a pal and {}; do me a favour and {}; do me a favor and {}; do me a favour: {}; if it's all the same
    to you, {}; if possible, {}; when you are ready, {}; when you're ready, {}; whenever you're ready, {}; i want you to
    {}; i need you to {}; i'm asking you to {}; i am telling you to {}; we need you to {}; do you think you could {};
    any chance you could {}; perhaps you could {}; maybe you can {}; you must {}; you need to {}; you have to {}; you
    can {}; your task is to {}; your mission is to {}; your orders are to {}; you are ordered to {}; you are instructed
    to {}; it's time to {}; time to {}; here's what i want: {}; here is your task: {}; here's a job for you: {}; new
    order: {}; order: {}; command: {}; instruction: {}; task: {}; mission: {}; urgent: {}; this is urgent: {}; quick,
    {}; quickly now, {}; chop chop, {}; immediately {}; at once, {}; without delay, {}; first of all, {}; for your first
    job, {}; all i ask is this: {}; {} for us; {} now; {} right away; {} straight away; {} immediately; {} asap; {}
    pronto; {} as soon as you can; {} when you can; {} when you're ready; {}, little robot; {}, my friend; {}, mate; {},
    buddy; {}, pal; {}, dear; {}, thanks; {}, cheers; {}, ok?; {}, okay?; {}, all right?; {}, will you?; {}, that's an
    order; {}, there's a good robot; {}, quick!; {}, chop chop; {}, that's all i ask
""")
