"""Services of ROS 2 Jazzy whose packages are in the `rosbags` type store, which has messages only."""

from __future__ import annotations

#: Definition by name, without comments.
SERVICES = {
    "action_msgs/srv/CancelGoal": (
        "GoalInfo goal_info\n"
        "---\n"
        "int8 ERROR_NONE=0\n"
        "int8 ERROR_REJECTED=1\n"
        "int8 ERROR_UNKNOWN_GOAL_ID=2\n"
        "int8 ERROR_GOAL_TERMINATED=3\n"
        "int8 return_code\n"
        "GoalInfo[] goals_canceling\n"
    ),
    "diagnostic_msgs/srv/AddDiagnostics": "string load_namespace\n---\nbool success\nstring message\n",
    "diagnostic_msgs/srv/SelfTest": "---\nstring id\nbyte passed\nDiagnosticStatus[] status\n",
    "lifecycle_msgs/srv/ChangeState": "Transition transition\n---\nbool success\n",
    "lifecycle_msgs/srv/GetAvailableStates": "---\nState[] available_states\n",
    "lifecycle_msgs/srv/GetAvailableTransitions": "---\nTransitionDescription[] available_transitions\n",
    "lifecycle_msgs/srv/GetState": "---\nState current_state\n",
    "nav_msgs/srv/GetMap": "---\nOccupancyGrid map\n",
    "nav_msgs/srv/GetPlan": (
        "geometry_msgs/PoseStamped start\ngeometry_msgs/PoseStamped goal\nfloat32 tolerance\n---\nPath plan\n"
    ),
    "nav_msgs/srv/LoadMap": (
        "string map_url\n"
        "---\n"
        "uint8 RESULT_SUCCESS=0\n"
        "uint8 RESULT_MAP_DOES_NOT_EXIST=1\n"
        "uint8 RESULT_INVALID_MAP_DATA=2\n"
        "uint8 RESULT_INVALID_MAP_METADATA=3\n"
        "uint8 RESULT_UNDEFINED_FAILURE=255\n"
        "nav_msgs/OccupancyGrid map\n"
        "uint8 result\n"
    ),
    "nav_msgs/srv/SetMap": (
        "nav_msgs/OccupancyGrid map\ngeometry_msgs/PoseWithCovarianceStamped initial_pose\n---\nbool success\n"
    ),
    "rcl_interfaces/srv/DescribeParameters": "string[] names\n---\nParameterDescriptor[] descriptors\n",
    "rcl_interfaces/srv/GetLoggerLevels": "string[] names\n---\nLoggerLevel[] levels\n",
    "rcl_interfaces/srv/GetParameterTypes": "string[] names\n---\nuint8[] types\n",
    "rcl_interfaces/srv/GetParameters": (
        '# TODO(wjwwood): Decide on the rules for grouping, nodes, and parameter "names"\n'
        "string[] names\n"
        "---\n"
        "ParameterValue[] values\n"
    ),
    "rcl_interfaces/srv/ListParameters": (
        "uint64 DEPTH_RECURSIVE=0\nstring[] prefixes\nuint64 depth\n---\nListParametersResult result\n"
    ),
    "rcl_interfaces/srv/SetLoggerLevels": "LoggerLevel[] levels\n---\nSetLoggerLevelsResult[] results\n",
    "rcl_interfaces/srv/SetParameters": "Parameter[] parameters\n---\nSetParametersResult[] results\n",
    "rcl_interfaces/srv/SetParametersAtomically": "Parameter[] parameters\n---\nSetParametersResult result\n",
    "sensor_msgs/srv/SetCameraInfo": "sensor_msgs/CameraInfo camera_info\n---\nbool success\nstring status_message\n",
    "std_srvs/srv/Empty": "---\n",
    "std_srvs/srv/SetBool": "bool data\n---\nbool success\nstring message\n",
    "std_srvs/srv/Trigger": "---\nbool success\nstring message\n",
    "tf2_msgs/srv/FrameGraph": "---\nstring frame_yaml\n",
    "type_description_interfaces/srv/GetTypeDescription": (
        "string type_name\n"
        "string type_hash\n"
        "bool include_type_sources true\n"
        "---\n"
        "bool successful\n"
        "string failure_reason\n"
        "TypeDescription type_description\n"
        "TypeSource[] type_sources\n"
        "KeyValue[] extra_information\n"
    ),
    "visualization_msgs/srv/GetInteractiveMarkers": "---\nuint64 sequence_number\nInteractiveMarker[] markers\n",
}
