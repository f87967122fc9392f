#!/bin/sh
# ----------------------------------------------------------------------------
# PRACTICE SERVER: a rehearsal double, not WSO2's product.
# It obeys the same commands, options and exit codes as the real script:
#
#   wso2server.sh                run in the foreground
#   wso2server.sh start          run in the background (nohup); always exits 0
#   wso2server.sh stop           send SIGTERM and return at once
#   wso2server.sh restart        stop, wait for the old process without limit, start
#   wso2server.sh version        say what this is
#   -Dsetup  -DworkerNode=true  -DportOffset=N  -Dname=value    are passed on
#
# The real script also gives -Djava.endorsed.dirs (refused by Java 9 and newer)
# and -XX:MaxPermSize=256m (refused by Java 17 and newer). They are left out
# here: the practice server also runs on newer ones. The line with
# -XX:+UseSerialGC is not in the real script: it keeps a small server small.
# ----------------------------------------------------------------------------

# the home is the parent of this script's folder, symbolic links resolved
PRG="$0"
while [ -h "$PRG" ]; do
  target=`readlink "$PRG"`
  case "$target" in
    /*) PRG="$target" ;;
    *)  PRG=`dirname "$PRG"`/"$target" ;;
  esac
done
CARBON_HOME=`cd \`dirname "$PRG"\`/.. ; pwd`
export CARBON_HOME
PID_FILE="$CARBON_HOME/wso2carbon.pid"

if [ -z "$JAVACMD" ] ; then
  JAVACMD="java"
  if [ -n "$JAVA_HOME" ] ; then
    JAVACMD="$JAVA_HOME/bin/java"
  fi
fi
if [ ! -x "$JAVACMD" ] ; then
  echo "Error: JAVA_HOME is not defined correctly."
  echo " CARBON cannot execute $JAVACMD"
  exit 1
fi
if [ -z "$JAVA_HOME" ] ; then
  echo "You must set the JAVA_HOME variable before running CARBON."
  exit 1
fi

PID=""
if [ -e "$PID_FILE" ]; then
  PID=`cat "$PID_FILE"`
fi

CMD=""
args=""
for c in $*
do
  case "$c" in
    start|-start|--start)       CMD="start" ;;
    stop|-stop|--stop)          CMD="stop" ;;
    restart|-restart|--restart) CMD="restart" ;;
    version|-version|--version) CMD="version" ;;
    *)                          args="$args $c" ;;
  esac
done

background() {
  nohup sh "$CARBON_HOME/bin/wso2server.sh" $args > /dev/null 2>&1 &
}

if [ "$CMD" = "start" ]; then
  if [ -n "$PID" ] && ps -p $PID > /dev/null ; then
    echo "Process is already running"
    exit 0
  fi
  background
  exit 0
elif [ "$CMD" = "stop" ]; then
  kill -TERM $PID
  exit 0
elif [ "$CMD" = "restart" ]; then
  kill -TERM $PID
  while ps -p $PID > /dev/null 2>&1 ; do
    sleep 1
  done
  background
  exit 0
elif [ "$CMD" = "version" ]; then
  cat "$CARBON_HOME/bin/version.txt"
  exit 0
fi

# the real product is made for Java 1.7 and 1.8; any other gets a warning only
case `"$JAVACMD" -version 2>&1 | head -1` in
  *\"1.[78]*) ;;
  *) echo " Starting WSO2 Carbon (in unsupported JDK)"
     echo " [ERROR] CARBON is supported only on JDK 1.7 and 1.8" ;;
esac

# uncomment to raise the limit of open files
#ulimit -n 100000

echo JAVA_HOME environment variable is set to $JAVA_HOME
echo CARBON_HOME environment variable is set to $CARBON_HOME

cd "$CARBON_HOME"
if [ -d "$CARBON_HOME/tmp" ]; then
  rm -rf "$CARBON_HOME"/tmp/*
fi
mkdir -p "$CARBON_HOME/tmp"

CARBON_CLASSPATH="$CARBON_HOME/lib/*:$CARBON_HOME/repository/components/lib/*"

# exit code 121 asks for a new start (restart from the console)
START_EXIT_STATUS=121
status=$START_EXIT_STATUS
while [ "$status" = "$START_EXIT_STATUS" ]
do
    "$JAVACMD" \
    -Xms256m -Xmx1024m \
    -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss512k \
    -XX:+HeapDumpOnOutOfMemoryError \
    -XX:HeapDumpPath="$CARBON_HOME/repository/logs/heap-dump.hprof" \
    $JAVA_OPTS \
    -classpath "$CARBON_CLASSPATH" \
    -Djava.io.tmpdir="$CARBON_HOME/tmp" \
    -Dwso2.server.standalone=true \
    -Dcarbon.registry.root=/ \
    -Djava.command="$JAVACMD" \
    -Dcarbon.home="$CARBON_HOME" \
    -Dcarbon.config.dir.path="$CARBON_HOME/repository/conf" \
    -Dcomponents.repo="$CARBON_HOME/repository/components/plugins" \
    -Dfile.encoding=UTF8 \
    -Djava.net.preferIPv4Stack=true \
    -DworkerNode=false \
    org.runbook.practice.boot.Main $args
    status=$?
done
# no exit: as the real script, this one ends with 0 however Java ended
