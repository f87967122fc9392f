# What lives in the home of a program besides its pack, and how it moves to another pack's. Only what follows the marker is sent; core.py precedes it.
from .core import *  # noqa: F403

# --- agent ---
fnmatch, gzip = Later("fnmatch"), Later("gzip")

MANIFEST = ".runbook-manifest"  # in the home: what its archive brought, [size, CRC] by path
UNPROVEN = ".runbook-unproven"  # in the home: its program was not seen serving since this archive is in place
PREVIOUS = ".previous"  # suffix of the home that was replaced last
FEW = 5  # files of one folder that are named one by one
ASIDE = ".discarded"  # suffix of a home that is on its way out


def below(path, folders):
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def checksum(path):
    """Return [size, CRC-32] of a file, as a zip notes them; of a link its target."""
    if os.path.islink(path):
        return [-1, os.readlink(path)]
    crc = 0
    with open(path, "rb") as source:
        for block in iter(lambda: source.read(1 << 20), b""):
            crc = zlib.crc32(block, crc)
    return [os.path.getsize(path), crc]


def standing(path):
    """Return where the home is: a replacement that was cut short between two renames left it beside."""
    if not os.path.exists(path):
        for suffix in (ASIDE, PREVIOUS):
            if os.path.exists(path + suffix):
                return path + suffix
    return path


def read_manifest(home):
    """Return what the archive of this home brought, or None where nobody noted it."""
    try:
        with gzip.open(os.path.join(home, MANIFEST), "rt") as source:
            return json.load(source)
    except (OSError, ValueError, EOFError):
        return None


def write_manifest(home, listing):
    with gzip.open(os.path.join(home, MANIFEST), "wt") as out:
        json.dump({path: entry[:2] for path, entry in listing.items() if not path.endswith("/")}, out)


def files_of(home, rules):
    """Yield the paths below the home that are compared: not what the program makes by itself, nor what is carried whole."""
    for folder, folders, names in os.walk(home):
        at = os.path.relpath(folder, home) if folder != home else ""
        join = lambda name, at=at: at + "/" + name if at else name  # noqa: E731
        unpacked = {name[: -len(suffix)] for suffix in rules["unpacked"] for name in names if name.endswith(suffix)}
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        skipped = lambda path: below(path, rules["whole"]) or any(fnmatch.fnmatch(path, pattern) for pattern in rules["made"])  # noqa: E731
        folders[:] = [name for name in folders if name not in unpacked and name not in links and not skipped(join(name))]
        for name in names + links:
            if not skipped(join(name)):
                yield join(name)


def differences(home, rules):
    """Return how the home differs from what its archive brought: `added` and `changed` with [size, CRC], `removed`, and `known`.

    Where nobody noted what the archive brought (`known` is False), all files in the operator's places count as added.
    """
    brought = read_manifest(home)
    found = {"known": brought is not None, "added": {}, "changed": {}, "removed": []}
    there = set()
    for path in files_of(home, rules):
        there.add(path)
        if brought is None:
            if place_of(path, rules["places"]):
                found["added"][path] = checksum(os.path.join(home, path))
        elif path not in brought:
            found["added"][path] = checksum(os.path.join(home, path))
        elif checksum(os.path.join(home, path)) != brought[path]:
            found["changed"][path] = brought[path]
    if brought is not None:
        gone = set(brought) - there
        found["removed"] = sorted(p for p in gone if not below(p, rules["whole"]) and not any(fnmatch.fnmatch(p, pattern) for pattern in rules["made"]))
    return found


def place_of(path, places):
    """Return the operator's place that holds the path, "" when none does. `folder/*` names each folder in `folder`."""
    for place in places:
        parts = path.split("/")
        depth = place.count("/") + 1
        if len(parts) > depth and fnmatch.fnmatch("/".join(parts[:depth]), place):
            return "/".join(parts[:depth])
    return ""


def decide(found, listing, rules):
    """Return what becomes of the differences when the archive with `listing` takes the home's place.

    `carry`: files that are copied from the old home; `remove`: files of the new archive that go again, because they were removed;
    `left`: [path, why] of what stays behind; `anew`: number of differing files that the runbook writes itself.
    A difference is carried where the operator's things are, unless both changed: then the new archive's file stays.
    """
    result = {"carry": [], "remove": [], "left": [], "anew": 0}
    tops = set()
    if not found["known"]:
        for path in listing:
            place = place_of(path, rules["places"])
            tops.add(path[: len(place) + 1] + path[len(place) + 1 :].split("/")[0]) if place else None
    for path in sorted([*found["added"], *found["changed"], *found["removed"]]):
        place, new = place_of(path, rules["places"]), listing.get(path)
        if below(path, rules["ours"]):
            result["anew"] += 1
        elif path in found["removed"]:
            if new is not None and place:
                result["remove"].append(path)
            elif new is not None:
                result["left"].append([path, "removed since it was unpacked, and back with the new pack"])
        elif path in found["changed"]:
            if place and new is not None and list(new[:2]) == found["changed"][path]:
                result["carry"].append(path)
            elif place:
                result["left"].append(
                    [
                        path,
                        "changed since it was unpacked, and the new pack has another one"
                        if new
                        else "changed since it was unpacked, and the new pack has none",
                    ]
                )
            else:
                result["left"].append([path, "changed since it was unpacked"])
        elif not place:
            result["left"].append([path, "added since"])
        elif not found["known"] and path[: len(place) + 1] + path[len(place) + 1 :].split("/")[0] in tops:
            if new is None or list(new[:2]) != found["added"][path]:
                result["left"].append([place, "differs from the new pack, and nobody noted what the old one brought"])
        elif new is None:
            result["carry"].append(path)
        elif list(new[:2]) != found["added"][path]:
            result["left"].append([path, "added since, and the new pack brings its own"])
    result["left"] = shortened(result["left"])
    return result


def shortened(left):
    """Return [path, why] sorted, each once; of more than FEW files in one folder with the same reason the folder instead."""
    together = {}
    for path, why in left:
        together.setdefault((os.path.dirname(path), why), set()).add(path)
    pairs = [[path, why] for (folder, why), paths in together.items() for path in (paths if len(paths) <= FEW or not folder else [folder + "/*"])]
    return sorted(pairs)


def size_of(home, folders):
    total = 0
    for folder in folders:
        for at, _, names in os.walk(os.path.join(home, folder)):
            total += sum(os.lstat(os.path.join(at, name)).st_size for name in names)
    return total


def refuse_without_room(path, needed):
    free = shutil.disk_usage(os.path.dirname(path)).free
    if needed > free:
        raise Failed("No space left for another home beside %s: it needs %d MB, %d MB are free" % (path, needed >> 20, free >> 20))


def copy_into(old, new, decided, rules):
    """Copy to the new home what is carried. Logs are linked, so that both homes show what either start logged."""
    for path in decided["remove"]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(new, path))
    for path in decided["carry"]:
        os.makedirs(os.path.dirname(os.path.join(new, path)), exist_ok=True)
        shutil.copy2(os.path.join(old, path), os.path.join(new, path), follow_symlinks=False)
    for folder in rules["whole"]:
        source, target = os.path.join(old, folder), os.path.join(new, folder)
        if not os.path.lexists(source):
            continue
        if os.path.isdir(target):
            shutil.rmtree(target)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        link = ["--link"] if folder in rules["linked"] else []
        run(["cp", "--archive", "--no-target-directory", *link, source, target])


def put_in_place(r, tree, listing):
    """Stop the program, carry over what others put into its home, and put the new tree there; the old home stays beside it.

    It is neither running nor enabled afterwards. Raises Failed when that is no longer what the plan showed: nothing was replaced then, and the
    program runs again.
    """
    home, rules = r["path"], r["rules"]
    old = standing(home)
    refuse_without_room(home, size_of(old, [folder for folder in rules["whole"] if folder not in rules["linked"]]))
    state = {verb for verb in ("is-active", "is-enabled") if r["unit"] and subprocess.run(["systemctl", verb, "--quiet", r["unit"]]).returncode == 0}
    if state:  # nor does it start at a boot, before its settings are written
        run(["systemctl", "disable", "--now", r["unit"]])
    try:
        decided = decide(differences(old, rules), listing, rules)
        if [decided["carry"], decided["remove"]] != [r["carry"], r["remove"]]:
            raise Failed("what others put into %s changed since it was looked at; run again" % home)
        copy_into(old, tree, decided, rules)
        if r["proves"]:
            with open(os.path.join(tree, UNPROVEN), "w") as mark:
                mark.write(r["sha256"] + "\n")
        if r.get("owner"):
            run(["chown", "-R", r["owner"], tree])
    except BaseException:
        for verb in ("enable",) * ("is-enabled" in state) + ("start",) * ("is-active" in state):
            subprocess.run(["systemctl", verb, r["unit"]])
        raise
    if old != home:
        os.rename(old, home)
    # The last home that served is the one to go back to: one that never did is not kept.
    beside = home + (ASIDE if os.path.exists(os.path.join(home, UNPROVEN)) else PREVIOUS)
    shutil.rmtree(beside, ignore_errors=True)
    os.rename(home, beside)
    os.rename(tree, home)
    shutil.rmtree(home + ASIDE, ignore_errors=True)
