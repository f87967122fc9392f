"""What a machine needs to build the practice packs, by Debian package."""

from __future__ import annotations

COMMANDS = {"javac": "openjdk-17-jdk-headless"}
FILES = {
    "/usr/share/java/tomcat9-coyote.jar": "libtomcat9-java",
    "/usr/share/java/mariadb-java-client.jar": "libmariadb-java",
    "/usr/share/java/h2.jar": "libh2-java",
}
