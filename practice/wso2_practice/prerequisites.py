"""The commands and files needed to build the practice packs, each with its Debian package."""

from __future__ import annotations

COMMANDS = {"javac": "openjdk-17-jdk-headless"}
FILES = {
    "/usr/share/java/tomcat9-coyote.jar": "libtomcat9-java",
    "/usr/share/java/mariadb-java-client.jar": "libmariadb-java",
    "/usr/share/java/derby.jar": "libderby-java",
    "/usr/share/java/ecj.jar": "libecj-java",
}
