"""The documented launchers, `torch_imagenet/test/*.sh` and `tf_seresnet/test/*.sh`: what each runs, and what it leaves.

All of them are one program, `scripts/documented_launcher.py`. It turns a launcher's options into one command of the
half's main.py, runs that, and writes the files that the originals' readers look for.
"""
